// biome-ignore-all lint/suspicious/noTemplateCurlyInString: expressions of Terraform
import assert from "node:assert/strict";

import { allBlocks, blocks, expression, type HclModule } from "../hcl-module.ts";
import { assertAttributes, type Criterion, change } from "./criterion.ts";

/** The expression that each output hands on: a check of names and descriptions would not notice a wrong one. */
const outputValues: Readonly<Record<string, string>> = {
  region: "local.region",
  vpc_id: "local.vpc_id",
  private_subnet_ids: "local.private_subnet_ids",
  public_subnet_ids: "local.public_subnet_ids",
  ecs_cluster_arn: "aws_ecs_cluster.this.arn",
  ecs_cluster_name: "aws_ecs_cluster.this.name",
  efs_filesystem_id: "aws_efs_file_system.this.id",
  efs_filesystem_arn: "aws_efs_file_system.this.arn",
  log_group_name: "aws_cloudwatch_log_group.containers.name",
  log_group_arn: "aws_cloudwatch_log_group.containers.arn",
  cloud_map_namespace_id: "aws_service_discovery_private_dns_namespace.this.id",
  cloud_map_namespace_arn: "aws_service_discovery_private_dns_namespace.this.arn",
  cloud_map_namespace_name: "aws_service_discovery_private_dns_namespace.this.name",
  execution_role_arn: "aws_iam_role.execution.arn",
  task_role_arn: "aws_iam_role.task.arn",
  task_security_group_id: "aws_security_group.task.id",
  efs_security_group_id: "aws_security_group.efs.id",
  ecr_repository_url: "one(aws_ecr_repository.this[*].repository_url)",
  ecr_repository_arn: "one(aws_ecr_repository.this[*].arn)",
  backend_policy_json: "data.aws_iam_policy_document.backend.minified_json",
  sockerless_config: "yamlencode(local.sockerless_config)",
};

/** The value of `state_efs`: what mounts the state of each service. */
const stateValue =
  "{ for service, access_point in aws_efs_access_point.state : service => { access_point_arn = access_point.arn filesystem_id = aws_efs_file_system.this.id security_group_id = aws_security_group.efs.id } }";

const mountable = new Set(["aws_efs_mount_target.this", "aws_efs_file_system_policy.this"]);
const executing = new Set(["aws_iam_role_policy.execution", "aws_iam_role_policy_attachment.execution"]);

const streams = "${aws_cloudwatch_log_group.containers.arn}:*";

/** Criteria that the specification leaves open, though the module would be wrong without them. */
export const particulars: readonly Omit<Criterion, "number">[] = [
  {
    statement: "each output hands on what its name says",
    check: (module) => {
      for (const [name, value] of Object.entries(outputValues)) {
        assert.equal(expression(module.output(name)["value"]), value, name);
      }
      const others = [...module.outputs.keys()].filter((name) => !(name in outputValues));
      assert.deepEqual(others, ["state_efs"]);
      assert.equal(expression(module.output("state_efs")["value"]), stateValue);
    },
    brokenBy: [
      change("outputs.tf", "= aws_iam_role.task.arn", "= aws_iam_role.execution.arn"),
      change("outputs.tf", "= aws_security_group.efs.id\n}", "= aws_security_group.task.id\n}"),
      change("outputs.tf", "= local.private_subnet_ids", "= local.public_subnet_ids"),
      change("outputs.tf", "= aws_cloudwatch_log_group.containers.arn", "= aws_ecs_cluster.this.arn"),
      change("outputs.tf", "= aws_security_group.efs.id\n    }", "= aws_security_group.task.id\n    }"),
      change("outputs.tf", "= access_point.arn", "= aws_efs_file_system.this.arn"),
    ],
  },
  {
    statement: "who uses an output waits for what makes it usable: rights, mount targets, policies, routes",
    check: (module) => {
      const waiting = [...module.outputs].flatMap(([name, body]) =>
        body["depends_on"] === undefined
          ? []
          : [[name, new Set((body["depends_on"] as string[]).map(expression))]],
      );
      assert.deepEqual(Object.fromEntries(waiting), {
        efs_filesystem_id: mountable,
        state_efs: mountable,
        execution_role_arn: executing,
        task_role_arn: new Set(["aws_iam_role_policy.task"]),
        sockerless_config: new Set([
          ...mountable,
          ...executing,
          "aws_iam_role_policy.task",
          "aws_ecs_cluster_capacity_providers.this",
          "aws_route.internet",
          "aws_route.nat",
        ]),
      });
    },
    brokenBy: [
      change("outputs.tf", "  depends_on = [aws_iam_role_policy.task]\n", ""),
      change("outputs.tf", "[aws_efs_mount_target.this, aws_efs_file_system_policy.this]", "[]"),
      change("outputs.tf", "    aws_route.nat,\n", ""),
    ],
  },
  {
    statement: "the VPC has DNS and gives host names: EFS and Cloud Map need both",
    check: (module) => {
      assertAttributes(module.resource("aws_vpc"), { enable_dns_hostnames: true, enable_dns_support: true });
      const [existing = {}] = blocks(module.data("aws_vpc", "existing"), "lifecycle");
      assert.deepEqual(
        blocks(existing, "postcondition").map(({ condition }) => expression(condition)),
        ["self.enable_dns_support != false && self.enable_dns_hostnames != false"],
      );
    },
    brokenBy: [
      change("main.tf", "self.enable_dns_support != false && ", ""),
      change("main.tf", "self.enable_dns_hostnames != false", "true"),
      change("main.tf", "enable_dns_hostnames = true", "enable_dns_hostnames = false"),
      change("main.tf", "  enable_dns_support   = true\n", ""),
    ],
  },
  {
    statement: "endpoints: S3 in the route tables, the others as interfaces under the services' own names",
    check: (module) => {
      assertAttributes(module.resource("aws_vpc_endpoint", "s3"), {
        route_table_ids: "local.private_route_table_ids",
        service_name: "com.amazonaws.${local.region}.s3",
        vpc_endpoint_type: "Gateway",
      });
      assertAttributes(module.resource("aws_vpc_endpoint", "interface"), {
        private_dns_enabled: true,
        service_name:
          '%{if local.partition == "aws-cn" && contains(local.china_endpoint_services, each.value)}cn.%{endif}com.amazonaws.${local.region}.${each.value}',
        subnet_ids: "local.private_subnet_ids",
        vpc_endpoint_type: "Interface",
      });
    },
    brokenBy: [
      change("vpc_endpoints.tf", "private_dns_enabled = true", "private_dns_enabled = false"),
      change("vpc_endpoints.tf", '"cn."', '""'),
      change("vpc_endpoints.tf", '"Gateway"', '"Interface"'),
      change("vpc_endpoints.tf", '"Interface"', '"GatewayLoadBalancer"'),
    ],
  },
  {
    statement: "roles are taken on for tasks of this account and region alone",
    check: (module) => {
      const [statement = {}] = statementsOf(module, "assume_role");
      assert.deepEqual(blocks(statement, "condition"), [
        { test: "StringEquals", variable: "aws:SourceAccount", values: ["${local.account_id}"] },
        { test: "ArnLike", variable: "aws:SourceArn", values: ["${local.ecs_prefix}:*"] },
      ]);
    },
    brokenBy: [
      change("iam.tf", "values   = [local.account_id]", 'values   = ["*"]'),
      change("iam.tf", '["${local.ecs_prefix}:*"]', '["arn:aws:ecs:*"]'),
      change("iam.tf", 'variable = "aws:SourceArn"', 'variable = "aws:SourceAccount"'),
    ],
  },
  {
    statement: "the execution role reads the secrets of this instance and no others",
    check: (module) => {
      assert.equal(
        expression(module.local("secrets_arn")),
        "arn:${local.partition}:secretsmanager:${local.region}:${local.account_id}:secret:sockerless/${var.name}/*",
      );
      const secrets = statementsOf(module, "execution").filter(({ sid }) => sid === "RegistryCredentials");
      assert.deepEqual(
        secrets.map(({ actions, resources }) => ({ actions, resources })),
        [{ actions: ["secretsmanager:GetSecretValue"], resources: ["${local.secrets_arn}"] }],
      );
      const dynamic = blocks(module.data("aws_iam_policy_document", "execution"), "dynamic").flatMap((each) =>
        blocks(each, "statement"),
      );
      const keys = dynamic.filter((each) => JSON.stringify(each).includes("kms:Decrypt"));
      assert.deepEqual(
        keys.map((each) => expression(each["for_each"])),
        ["var.secrets_kms_key_arn == null ? [] : [var.secrets_kms_key_arn]"],
      );
      const [decrypting] = statementsOf(module, "execution").filter(({ sid }) => sid === "DecryptSecrets");
      assert.deepEqual(decrypting?.["resources"], ["${statement.value}"]);
    },
    brokenBy: [
      change("iam.tf", '"kms:Decrypt"', '"kms:*"'),
      change("iam.tf", "[] : [var.secrets_kms_key_arn]", '[] : ["*"]'),
      change("locals.tf", ":secret:sockerless/${var.name}/*", ":secret:*"),
      change("locals.tf", ":secret:sockerless/${var.name}/*", ":secret:sockerless/*"),
    ],
  },
  {
    statement: "writing logs is allowed on the group's streams, which are not the group",
    check: (module) => {
      for (const role of ["execution", "task"]) {
        const [statement] = statementsOf(module, role).filter(({ sid }) => sid === "WriteLogs");
        assert.deepEqual(statement?.["resources"], [streams], role);
      }
      const [reading] = statementsOf(module, "backend").filter(({ sid }) => sid === "Logs");
      assert.deepEqual(reading?.["resources"], ["${aws_cloudwatch_log_group.containers.arn}", streams]);
    },
    brokenBy: [
      change(
        "iam.tf",
        '"${aws_cloudwatch_log_group.containers.arn}:*"',
        "aws_cloudwatch_log_group.containers.arn",
      ),
      change("backend_policy.tf", ', "${aws_cloudwatch_log_group.containers.arn}:*"', ""),
    ],
  },
  {
    statement: "the file system's policy refuses mounting, writing and root access alike",
    check: (module) => {
      const statements = statementsOf(module, "efs");
      assert.deepEqual(
        statements.map(({ sid }) => sid),
        ["EncryptedConnectionsOnly", "MountTargetsOnly", "AccessPointsOnly", "State${statement.key}"],
      );
      for (const { sid, effect, actions, resources } of statements) {
        assert.equal(effect, "Deny", String(sid));
        assert.deepEqual(actions, ["elasticfilesystem:Client*"], String(sid));
        assert.deepEqual(resources, ["${aws_efs_file_system.this.arn}"], String(sid));
      }
    },
    brokenBy: [
      change(
        "efs.tf",
        '["elasticfilesystem:Client*"]',
        '["elasticfilesystem:ClientMount", "elasticfilesystem:ClientRootAccess"]',
      ),
      change("efs.tf", '"Deny"', '"Allow"'),
      change("efs.tf", 'sid       = "MountTargetsOnly"', 'sid       = "Other"'),
    ],
  },
  {
    statement: "the one rule of the repository is its first",
    check: (module) => {
      const policy = expression(module.resource("aws_ecr_lifecycle_policy")["policy"]);
      assert.equal(policy.match(/rulePriority = 1\b/g)?.length, 1);
      assert.equal(policy.match(/rulePriority/g)?.length, 1);
    },
    brokenBy: [
      change("ecr.tf", "rulePriority = 1", "rulePriority = 0"),
      change("ecr.tf", "      rulePriority = 1\n", ""),
    ],
  },
];

function statementsOf(module: HclModule, document: string) {
  return allBlocks(module.data("aws_iam_policy_document", document), "statement");
}
