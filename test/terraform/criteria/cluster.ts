// biome-ignore-all lint/suspicious/noTemplateCurlyInString: expressions of Terraform
import assert from "node:assert/strict";

import { blocks, expression } from "../hcl-module.ts";
import { assertAttributes, assertDefault, type Criterion, change } from "./criterion.ts";

/** Cluster, file system, logs, names and images. */
export const clusterCriteria: readonly Criterion[] = [
  {
    number: 7,
    statement: "an ECS cluster for Fargate with a configurable name, sockerless by default",
    check: (module) => {
      assertAttributes(module.resource("aws_ecs_cluster"), { name: "var.name" });
      assertDefault(module, "name", "sockerless");
      const providers = module.resource("aws_ecs_cluster_capacity_providers");
      assertAttributes(providers, { cluster_name: "aws_ecs_cluster.this.name" });
      assert.deepEqual(providers["capacity_providers"], ["FARGATE", "FARGATE_SPOT"]);
      const [strategy = {}] = blocks(providers, "default_capacity_provider_strategy");
      assertAttributes(strategy, { capacity_provider: "var.capacity_provider" });
      assertDefault(module, "capacity_provider", "FARGATE");
    },
    brokenBy: [
      change(
        "main.tf",
        "  name = var.name\n  tags = merge(local.tags, { Name = var.name })\n\n  setting",
        '  name = "sockerless"\n\n  setting',
      ),
      change("variables.tf", 'default     = "sockerless"', 'default     = "docker"'),
      change("main.tf", '["FARGATE", "FARGATE_SPOT"]', '["FARGATE_SPOT"]'),
    ],
  },
  {
    number: 8,
    statement: "Container Insights, enabled by default",
    check: (module) => {
      const [setting = {}] = blocks(module.resource("aws_ecs_cluster"), "setting");
      assertAttributes(setting, {
        name: "containerInsights",
        value: 'var.enable_container_insights ? "enabled" : "disabled"',
      });
      assertDefault(module, "enable_container_insights", true);
    },
    brokenBy: [
      change("main.tf", '? "enabled" : "disabled"', '? "disabled" : "enabled"'),
      change("main.tf", '"containerInsights"', '"other"'),
    ],
  },
  {
    number: 9,
    statement: "an EFS file system with configurable performance and throughput mode",
    check: (module) => {
      assertAttributes(module.resource("aws_efs_file_system"), {
        performance_mode: "var.efs_performance_mode",
        throughput_mode: "var.efs_throughput_mode",
      });
      assertDefault(module, "efs_performance_mode", "generalPurpose");
      assertDefault(module, "efs_throughput_mode", "bursting");
    },
    brokenBy: [
      change("efs.tf", "= var.efs_performance_mode", '= "maxIO"'),
      change("variables.tf", 'default     = "bursting"', 'default     = "elastic"'),
    ],
  },
  {
    number: 10,
    statement: "a mount target in every private subnet",
    check: (module) => {
      const target = module.resource("aws_efs_mount_target");
      assertAttributes(target, {
        count: "length(local.private_subnet_ids)",
        file_system_id: "aws_efs_file_system.this.id",
        subnet_id: "local.private_subnet_ids[count.index]",
      });
      assert.match(expression(module.local("private_subnet_ids")), /aws_subnet\.private\[\*\]\.id/);
    },
    brokenBy: [
      change("efs.tf", "count = length(local.private_subnet_ids)", "count = 1"),
      change("efs.tf", "local.private_subnet_ids[count.index]", "local.public_subnet_ids[count.index]"),
      change("locals.tf", "? aws_subnet.private[*].id", "? aws_subnet.public[*].id"),
    ],
  },
  {
    number: 12,
    statement: "EFS encrypts what it stores, by default",
    check: (module) => {
      assertAttributes(module.resource("aws_efs_file_system"), { encrypted: "var.efs_encrypted" });
      assertDefault(module, "efs_encrypted", true);
    },
    brokenBy: [change("efs.tf", "= var.efs_encrypted\n  kms", "= false\n  kms")],
  },
  {
    number: 13,
    statement: "a log group /sockerless/containers with a retention of 30 days, both configurable",
    check: (module) => {
      assertAttributes(module.resource("aws_cloudwatch_log_group", "containers"), {
        name: "local.log_group_name",
        retention_in_days: "var.log_retention_days",
      });
      assert.equal(
        expression(module.local("log_group_name")),
        'coalesce(var.log_group_name, "/${var.name}/containers")',
      );
      assertDefault(module, "name", "sockerless");
      assertDefault(module, "log_group_name", null);
      assertDefault(module, "log_retention_days", 30);
    },
    brokenBy: [
      change("cloudwatch.tf", "= var.log_retention_days", "= 30"),
      change("locals.tf", '"/${var.name}/containers"', '"/containers"'),
      change("variables.tf", "default     = 30\n", "default     = 14\n"),
    ],
  },
  {
    number: 14,
    statement: "a Cloud Map private DNS namespace sockerless.local in the VPC, configurable",
    check: (module) => {
      assertAttributes(module.resource("aws_service_discovery_private_dns_namespace"), {
        name: "local.cloud_map_namespace_name",
        vpc: "local.vpc_id",
      });
      assert.equal(
        expression(module.local("cloud_map_namespace_name")),
        'coalesce(var.cloud_map_namespace_name, "${var.name}.local")',
      );
      assertDefault(module, "cloud_map_namespace_name", null);
    },
    brokenBy: [
      change("cloudmap.tf", "vpc         = local.vpc_id", ""),
      change("locals.tf", '"${var.name}.local"', '"${var.name}.internal"'),
    ],
  },
  {
    number: 21,
    statement: "an ECR repository, by default",
    check: (module) => {
      assertAttributes(module.resource("aws_ecr_repository"), {
        count: "var.create_ecr_repository ? 1 : 0",
        name: "var.name",
      });
      assertDefault(module, "create_ecr_repository", true);
    },
    brokenBy: [
      change("ecr.tf", "count = var.create_ecr_repository ? 1 : 0\n\n  force", "count = 1\n\n  force"),
      change("ecr.tf", "name                 = var.name", 'name                 = "sockerless"'),
    ],
  },
  {
    number: 22,
    statement: "images without a tag expire after a configurable number of days, 7 by default",
    check: (module) => {
      const policy = module.resource("aws_ecr_lifecycle_policy");
      assertAttributes(policy, { repository: "aws_ecr_repository.this[count.index].name" });
      const text = expression(policy["policy"]);
      for (const part of [
        'tagStatus = "untagged"',
        'countType = "sinceImagePushed"',
        'countUnit = "days"',
        "countNumber = var.ecr_untagged_expiry_days",
        'action = { type = "expire" }',
      ]) {
        assert.ok(text.includes(part), part);
      }
      assertDefault(module, "ecr_untagged_expiry_days", 7);
    },
    brokenBy: [
      change("ecr.tf", "countNumber = var.ecr_untagged_expiry_days", "countNumber = 7"),
      change("ecr.tf", '"untagged"', '"any"'),
      change("variables.tf", "default     = 7\n", "default     = 30\n"),
    ],
  },
];
