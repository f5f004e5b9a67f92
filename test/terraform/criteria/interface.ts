// biome-ignore-all lint/suspicious/noTemplateCurlyInString: expressions of Terraform
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";

import { checkout } from "../../support/daemon.ts";
import { expression, type HclModule } from "../hcl-module.ts";
import { type Criterion, change } from "./criterion.ts";

const outputs = [
  "vpc_id",
  "private_subnet_ids",
  "public_subnet_ids",
  "ecs_cluster_arn",
  "ecs_cluster_name",
  "efs_filesystem_id",
  "log_group_name",
  "log_group_arn",
  "cloud_map_namespace_id",
  "cloud_map_namespace_arn",
  "execution_role_arn",
  "task_role_arn",
  "task_security_group_id",
  "efs_security_group_id",
  "ecr_repository_url",
  "region",
];

export const interfaceCriteria: readonly Criterion[] = [
  {
    number: 23,
    statement:
      "every parameter is a variable with description, type and default, and validation unless it is a switch",
    check: (module) => {
      assert.ok(module.variables.size >= 30, `${module.variables.size} variables`);
      for (const [name, body] of module.variables) {
        assertDescribed(name, body["description"]);
        assert.ok(body["type"] !== undefined, `${name} has a type`);
        assert.ok("default" in body, `${name} has a default`);
        const isSwitch = expression(body["type"]) === "bool";
        assert.ok(isSwitch || Array.isArray(body["validation"]), `${name} is validated`);
      }
    },
    brokenBy: [
      change("variables.tf", '  description = "How many days CloudWatch keeps the logs."\n', ""),
      change("variables.tf", "  type        = number\n  default     = 30\n", "  default     = 30\n"),
      change("variables.tf", "  default     = 7\n", ""),
      change(
        "variables.tf",
        '  validation {\n    condition     = var.ecr_untagged_expiry_days >= 1 && floor(var.ecr_untagged_expiry_days) == var.ecr_untagged_expiry_days\n    error_message = "Images without a tag are kept for at least one whole day."\n  }\n',
        "",
      ),
    ],
  },
  {
    number: 24,
    statement: "the outputs that the seed names, described",
    check: (module) => {
      for (const name of outputs) {
        const body = module.output(name);
        assertDescribed(name, body["description"]);
        assert.match(expression(body["value"]), /^(one\()?(aws_|local\.)/, `value of ${name}`);
      }
      for (const [name, body] of module.outputs) {
        assertDescribed(name, body["description"]);
      }
    },
    brokenBy: [
      change("outputs.tf", 'output "cloud_map_namespace_arn"', 'output "namespace_arn"'),
      change("outputs.tf", '  description = "ARN of the ECS cluster."\n', ""),
      change("outputs.tf", "  value       = aws_iam_role.task.arn\n", '  value       = "arn"\n'),
    ],
  },
  {
    number: 25,
    statement: "nothing has to be given: a plan with default values works (run for real in plans.test.ts)",
    check: (module) => {
      const required = [...module.variables].filter(([, body]) => !("default" in body)).map(([name]) => name);
      assert.deepEqual(required, []);
      const used =
        JSON.stringify(module.resources.concat(module.dataSources)) + Object.values(module.sources).join("");
      for (const [, name = ""] of used.matchAll(/\bvar\.(\w+)/g)) {
        assert.ok(module.variables.has(name), `var.${name} is declared`);
      }
    },
    brokenBy: [
      change("variables.tf", '  default     = "sockerless"\n', ""),
      change("main.tf", "var.vpc_cidr", "var.cidr"),
    ],
  },
  {
    number: 26,
    statement: "every resource that can have tags has the standard ones",
    check: (module) => {
      const tags = expression(module.local("tags"));
      assert.match(
        tags,
        /^merge\(var\.tags, \{ project = "sockerless" environment = var\.environment component = "ecs" managed-by = "terraform" \}\)$/,
      );
      const untagged = module.resources
        .filter(({ type }) => canHaveTags(type))
        .filter(({ body }) => !/^(merge\()?local\.tags\b/.test(expression(body["tags"] ?? "")));
      assert.deepEqual(
        untagged.map(({ type, name }) => `${type}.${name}`),
        [],
      );
      assert.ok(module.resources.filter(({ type }) => canHaveTags(type)).length > 20);
    },
    brokenBy: [
      change("locals.tf", '    managed-by  = "terraform"\n', ""),
      change("locals.tf", 'component   = "ecs"', 'component   = "aws"'),
      change("efs.tf", "  tags                            = merge(local.tags, { Name = var.name })\n", ""),
      change(
        "security_groups.tf",
        '  tags              = merge(local.tags, { Name = "${var.name}-task-egress" })\n',
        "",
      ),
    ],
  },
];

function assertDescribed(name: string, description: unknown): void {
  assert.ok(typeof description === "string" && description.length > 10, `${name} is described`);
}

interface SchemaFixture {
  readonly resources: Readonly<Record<string, { readonly attributes: Readonly<Record<string, unknown>> }>>;
}

const schema = JSON.parse(
  readFileSync(join(checkout, "test/terraform/provider/fixtures/aws.json"), "utf8"),
) as SchemaFixture;

/** True if the provider's schema knows tags for a type. */
function canHaveTags(type: string): boolean {
  const resource = schema.resources[type];
  assert.ok(resource, `the schema of ${type} is among the fixtures`);
  return "tags" in resource.attributes;
}

/** The seed's files of the module. */
export const seedFiles = [
  "cloudmap.tf",
  "cloudwatch.tf",
  "ecr.tf",
  "efs.tf",
  "iam.tf",
  "locals.tf",
  "main.tf",
  "outputs.tf",
  "security_groups.tf",
  "variables.tf",
  "versions.tf",
];

/** That a module's `versions.tf` asks for Terraform 1.5 and one major version of its provider. */
export function assertVersions(module: HclModule, provider: string, constraint: string): void {
  const { settings } = module;
  assert.equal(settings["required_version"], ">= 1.5");
  assert.deepEqual(settings["required_providers"], [
    { [provider]: { source: `hashicorp/${provider}`, version: constraint } },
  ]);
}
