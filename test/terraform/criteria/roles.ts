// biome-ignore-all lint/suspicious/noTemplateCurlyInString: expressions of Terraform
import assert from "node:assert/strict";

import { allBlocks, blocks, expression, type HclBlock, type HclModule } from "../hcl-module.ts";
import { assertAttributes, assertDefault, type Criterion, change } from "./criterion.ts";

/** Actions that AWS gives no resource: only these may be allowed on "*". */
export const actionsWithoutResource: ReadonlySet<string> = new Set([
  "ec2:DescribeSecurityGroups",
  "ec2:DescribeSubnets",
  "ecr:GetAuthorizationToken",
  "ecs:DeregisterTaskDefinition",
  "ecs:DescribeTaskDefinition",
  "ecs:ListTaskDefinitionFamilies",
  "ecs:ListTaskDefinitions",
  "logs:DescribeLogGroups",
  "servicediscovery:ListServices",
  "servicequotas:GetServiceQuota",
]);

/** Actions that AWS gives no resource and that change something: allowed on "*" by themselves, on these conditions. */
export const conditionsWithoutResource: Readonly<Record<string, readonly string[]>> = {
  "ecs:ListTasks": ["ecs:cluster"],
  "servicediscovery:TagResource": ["aws:RequestTag/sockerless-instance", "aws:TagKeys"],
};

const logs = {
  actions: ["logs:CreateLogStream", "logs:PutLogEvents"],
  on: "aws_cloudwatch_log_group.containers.arn",
};
const pull = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"];

export const roleCriteria: readonly Criterion[] = [
  {
    number: 15,
    statement: "an execution role with AWS's policy, and the right to pull from ECR and write the log group",
    check: (module) => {
      assertDefault(module, "attach_execution_managed_policy", true);
      assertAttributes(module.resource("aws_iam_role_policy_attachment", "execution"), {
        count: "var.attach_execution_managed_policy ? 1 : 0",
        policy_arn: "arn:${local.partition}:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy",
        role: "aws_iam_role.execution.name",
      });
      assertPolicyOf(module, "execution");
      const statements = statementsOf(module, "execution");
      const pulling = statements.filter(({ sid }) => sid === "PullImages");
      assert.deepEqual(actionsOn(pulling, "statement.value"), pull);
      assert.deepEqual(actionsOn(statements, "*"), ["ecr:GetAuthorizationToken"]);
      assert.deepEqual(actionsOn(statements, logs.on), logs.actions);
    },
    brokenBy: [
      change("iam.tf", "AmazonECSTaskExecutionRolePolicy", "AmazonECSTaskExecution"),
      change("iam.tf", '        "ecr:GetDownloadUrlForLayer",\n', ""),
      change("iam.tf", "policy = data.aws_iam_policy_document.execution.json", 'policy = "{}"'),
    ],
  },
  {
    number: 16,
    statement:
      "a task role that may mount the file system, write the log group, register in Cloud Map, and no more",
    check: (module) => {
      assertPolicyOf(module, "task");
      const statements = statementsOf(module, "task");
      assert.deepEqual(actionsOn(statements, "aws_efs_file_system.this.arn"), [
        "elasticfilesystem:ClientMount",
        "elasticfilesystem:ClientRootAccess",
        "elasticfilesystem:ClientWrite",
        "elasticfilesystem:DescribeMountTargets",
      ]);
      assert.deepEqual(actionsOn(statements, logs.on), logs.actions);
      assert.deepEqual(actionsOn(statements, "local.services_arn"), [
        "servicediscovery:DeregisterInstance",
        "servicediscovery:RegisterInstance",
      ]);
      assert.deepEqual(conditionsOn(statements, "local.services_arn"), [
        "Null aws:ResourceTag/sockerless-instance",
      ]);
      assert.deepEqual(
        actionsOn(statements, "aws_service_discovery_private_dns_namespace.this.hosted_zone"),
        ["route53:ChangeResourceRecordSets"],
      );
      assert.deepEqual(conditionsOn(statements, "aws_efs_file_system.this.arn"), [
        "ArnLike elasticfilesystem:AccessPointArn",
        "Bool elasticfilesystem:AccessedViaMountTarget",
      ]);
      assert.equal(statements.length, 5);
      const optional = blocks(module.data("aws_iam_policy_document", "task"), "dynamic")
        .flatMap((dynamic) => blocks(dynamic, "statement"))
        .map((each) => expression(each["for_each"]));
      assert.deepEqual(optional, Array(2).fill('var.task_cloud_map_registration ? ["this"] : []'));
      assertDefault(module, "task_cloud_map_registration", true);
    },
    brokenBy: [
      change("iam.tf", '      "elasticfilesystem:ClientWrite",\n', ""),
      change("iam.tf", '"elasticfilesystem:DescribeMountTargets"', '"elasticfilesystem:*"'),
      change("iam.tf", 'variable = "elasticfilesystem:AccessPointArn"', 'variable = "aws:PrincipalArn"'),
      change("iam.tf", "policy = data.aws_iam_policy_document.task.json", 'policy = "{}"'),
      change("iam.tf", '"servicediscovery:RegisterInstance"]', '"servicediscovery:CreateService"]'),
      change(
        "iam.tf",
        'variable = "aws:ResourceTag/sockerless-instance"',
        'variable = "aws:ResourceTag/other"',
      ),
    ],
  },
  {
    number: 17,
    statement: "both roles trust ecs-tasks.amazonaws.com, and nobody else",
    check: (module) => {
      for (const role of ["execution", "task"]) {
        assertAttributes(module.resource("aws_iam_role", role), {
          assume_role_policy: "data.aws_iam_policy_document.assume_role.json",
        });
      }
      const statements = statementsOf(module, "assume_role");
      assert.equal(statements.length, 1);
      assert.deepEqual(
        statements.flatMap((each) => blocks(each, "principals")),
        [{ type: "Service", identifiers: ["ecs-tasks.amazonaws.com"] }],
      );
      assert.deepEqual(statements[0]?.["actions"], ["sts:AssumeRole"]);
    },
    brokenBy: [
      change("iam.tf", "ecs-tasks.amazonaws.com", "ec2.amazonaws.com"),
      change(
        "iam.tf",
        'identifiers = ["ecs-tasks.amazonaws.com"]',
        'identifiers = ["ecs-tasks.amazonaws.com", "ecs.amazonaws.com"]',
      ),
    ],
  },
  {
    number: 18,
    statement: 'policies name resources; "*" stands only for actions that AWS gives none, with a comment',
    check: (module) => {
      for (const document of ["execution", "task", "backend"]) {
        statementsOf(module, document).forEach(assertScoped);
      }
      for (const [file, text] of Object.entries(module.sources)) {
        for (const line of text.split("\n").filter((each) => /resources\s*=.*"\*"/.test(each))) {
          assert.match(line, /"\*"\] # \S/, `${file}: a comment says why: ${line.trim()}`);
        }
      }
    },
    brokenBy: [
      change("iam.tf", "resources = [aws_efs_file_system.this.arn]", 'resources = ["*"] # all of them'),
      change("iam.tf", 'resources = ["*"] #', 'resources = ["*"]\n #'),
      change(
        "backend_policy.tf",
        '"ecr:GetAuthorizationToken",',
        '"ecr:GetAuthorizationToken", "ecs:RunTask",',
      ),
      change("backend_policy.tf", 'variable = "aws:TagKeys"', 'variable = "aws:PrincipalTag/x"'),
      change("backend_policy.tf", "resources = [local.tasks_arn]", 'resources = ["arn:aws:ecs:*:*:*"]'),
      change(
        "backend_policy.tf",
        "resources = [aws_iam_role.execution.arn, aws_iam_role.task.arn]",
        'resources = ["*"] # any',
      ),
    ],
  },
];

/** That a statement is for named resources. */
function assertScoped(statement: HclBlock): void {
  const actions = statement["actions"] as string[];
  for (const action of actions) {
    assert.doesNotMatch(action, /\*/, "actions are listed one by one");
  }
  const resources = resourcesOf(statement);
  if (resources.some((resource) => resource === "*")) {
    const conditions = blocks(statement, "condition").map((each) => String(each["variable"]));
    const needed = conditionsWithoutResource[actions.join()];
    const isNarrowed = needed?.every((variable) => conditions.includes(variable)) === true;
    const widened = actions.filter((action) => !actionsWithoutResource.has(action));
    assert.ok(isNarrowed || widened.length === 0, `${widened.join()} on "*"`);
    return;
  }
  for (const resource of resources) {
    assert.match(resource, /aws_\w+\.\w+|local\.\w+_arn|statement\.value/, "names what the module made");
  }
}

/** That a role's policy is the document of its name. */
function assertPolicyOf(module: HclModule, role: string): void {
  assertAttributes(module.resource("aws_iam_role_policy", role), {
    policy: `data.aws_iam_policy_document.${role}.json`,
    role: `aws_iam_role.${role}.name`,
  });
}

function statementsOf(module: HclModule, document: string): HclBlock[] {
  return allBlocks(module.data("aws_iam_policy_document", document), "statement");
}

function resourcesOf(statement: HclBlock): string[] {
  const resources = statement["resources"];
  return (Array.isArray(resources) ? resources : [resources]).map(expression);
}

/** Test and key of each condition of the statements whose resources name `resource`. */
function conditionsOn(statements: readonly HclBlock[], resource: string): string[] {
  return statements
    .filter((each) => resourcesOf(each).some((text) => text.includes(resource)))
    .flatMap((each) => blocks(each, "condition"))
    .map((each) => `${String(each["test"])} ${String(each["variable"])}`)
    .sort();
}

/** Actions of all statements whose resources name `resource`, sorted. */
function actionsOn(statements: readonly HclBlock[], resource: string): string[] {
  return statements
    .filter((each) =>
      resourcesOf(each).some((text) => (resource === "*" ? text === "*" : text.includes(resource))),
    )
    .flatMap((each) => each["actions"] as string[])
    .sort();
}
