/** What the ECS module hands on: the configuration, the policies, the outputs. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";

import { loadConfig } from "../../src/common/config/load.ts";
import { checkout } from "../support/daemon.ts";
import { actionsWithoutResource } from "./criteria/roles.ts";
import { HclModule, readSources } from "./hcl-module.ts";
import { moduleCall } from "./module-call.ts";
import { type PlannedResource, skip, Workspace } from "./terraform.ts";

interface Statement {
  readonly Sid: string;
  readonly Effect: string;
  readonly Action: string | readonly string[];
  readonly Resource: string | readonly string[];
  readonly Condition?: Readonly<Record<string, Readonly<Record<string, string | readonly string[]>>>>;
}

interface PolicyDocument {
  readonly Version: string;
  readonly Statement: readonly Statement[];
}

describe("the outputs of the ECS module", { skip }, () => {
  let workspace: Workspace;
  let outputs: Readonly<Record<string, unknown>>;
  let resources: readonly PlannedResource[];

  before(async () => {
    const { outputs: all } = await HclModule.parse(readSources("modules/ecs"));
    workspace = await Workspace.create(
      moduleCall(
        "ecs",
        {
          agent_ingress_security_group_ids: ["sg-0123456789abcdef0"],
          pull_through_caches: { "docker.io": "docker-hub" },
        },
        [...all.keys()],
      ),
    );
    await workspace.planAndApply();
    outputs = await workspace.outputs();
    resources = await workspace.resources();
  });
  after(() => workspace[Symbol.asyncDispose]());

  it("are all known", () => {
    for (const [name, value] of Object.entries(outputs)) {
      assert.ok(value !== null && value !== "", name);
    }
  });

  it("hold a configuration that sockerless accepts, with what the module made", async () => {
    const file = join(workspace.directory, "config.yaml");
    await writeFile(file, String(outputs["sockerless_config"]));
    const { config, warnings } = loadConfig({ command: "serve", environment: {}, uid: 0, file });
    assert.ok(config.backend === "ecs");
    assert.deepEqual(warnings, []);
    const { ecs } = config;
    assert.deepEqual(
      {
        region: ecs.region,
        cluster: ecs.cluster,
        subnets: ecs.subnets,
        securityGroups: ecs.securityGroups,
        executionRoleArn: ecs.executionRoleArn,
        taskRoleArn: ecs.taskRoleArn,
        efsFilesystemId: ecs.efsFilesystemId,
        efsSecurityGroupId: ecs.efsSecurityGroupId,
        logGroup: ecs.logGroup,
        ecrRepository: ecs.ecrRepository,
        cloudMapNamespaceId: ecs.cloudMapNamespaceId,
      },
      {
        region: outputs["region"],
        cluster: outputs["ecs_cluster_name"],
        subnets: outputs["private_subnet_ids"],
        securityGroups: [outputs["task_security_group_id"]],
        executionRoleArn: outputs["execution_role_arn"],
        taskRoleArn: outputs["task_role_arn"],
        efsFilesystemId: outputs["efs_filesystem_id"],
        efsSecurityGroupId: outputs["efs_security_group_id"],
        logGroup: outputs["log_group_name"],
        ecrRepository: outputs["ecr_repository_url"],
        cloudMapNamespaceId: outputs["cloud_map_namespace_id"],
      },
    );
    assert.equal(ecs.capacityProvider, "FARGATE");
    assert.equal(ecs.assignPublicIp, false);
    assert.deepEqual(ecs.agentIngress, ["sg-0123456789abcdef0"]);
    assert.deepEqual(ecs.pullThroughCaches, [
      "docker.io=123456789012.dkr.ecr.us-east-1.amazonaws.com/docker-hub",
    ]);
  });

  it("hold the backend's policy, which is deploy/iam/backend-policy.json with names filled in", () => {
    const document = readFileSync(join(checkout, "deploy/iam/backend-policy.json"), "utf8");
    const values: Readonly<Record<string, unknown>> = {
      partition: "aws",
      region: outputs["region"],
      account: "123456789012",
      cluster: outputs["ecs_cluster_name"],
      "execution-role": nameOf(outputs["execution_role_arn"]),
      "task-role": nameOf(outputs["task_role_arn"]),
      vpc: outputs["vpc_id"],
      "efs-filesystem": outputs["efs_filesystem_id"],
      "efs-security-group": outputs["efs_security_group_id"],
      "log-group": outputs["log_group_name"],
      "cloud-map-namespace": outputs["cloud_map_namespace_id"],
      "hosted-zone": attributeOf("aws_service_discovery_private_dns_namespace", "hosted_zone"),
      "ecr-repository": attributeOf("aws_ecr_repository", "name"),
    };
    const filledIn = document.replaceAll(/<([a-z-]+)>/g, (placeholder, name: string) => {
      assert.ok(name in values, `${placeholder} is known`);
      return String(values[name]);
    });
    assert.deepEqual(normalise(JSON.parse(filledIn)), normalise(policy()));
  });

  it("hold a backend's policy that fits into a managed policy, even with long names and in GovCloud", () => {
    const longest = String(outputs["backend_policy_json"])
      .replaceAll("arn:aws:", "arn:aws-us-gov:")
      .replaceAll("us-east-1", "ap-southeast-2")
      .replaceAll(/\/sockerless(?!-)/g, `/${"n".repeat(24)}`);
    assert.ok(longest.replaceAll(/\s/g, "").length <= 6144, `${longest.length} characters`);
  });

  it('allow "*" only for actions without a resource, or for the tasks of one cluster', () => {
    for (const statement of policy().Statement) {
      assert.equal(statement.Effect, "Allow");
      if (!listOf(statement.Resource).includes("*")) {
        continue;
      }
      const cluster = statement.Condition?.["ArnEquals"]?.["ecs:cluster"];
      const listsOneCluster = statement.Action === "ecs:ListTasks" && cluster === outputs["ecs_cluster_arn"];
      const widened = listOf(statement.Action).filter((action) => !actionsWithoutResource.has(action));
      assert.ok(listsOneCluster || widened.length === 0, widened.join());
    }
  });

  it("grant an execution role that may fill the pull-through caches which the configuration names", () => {
    const execution = resources.find(
      ({ type, name }) => type === "aws_iam_role_policy" && name === "execution",
    );
    const { Statement: statements } = JSON.parse(String(execution?.values["policy"])) as PolicyDocument;
    const caches = statements.find(({ Sid }) => Sid === "PullThroughCaches");
    assert.equal(caches?.Resource, "arn:aws:ecr:us-east-1:123456789012:repository/docker-hub/*");
    for (const action of ["ecr:BatchImportUpstreamImage", "ecr:CreateRepository"]) {
      assert.ok(listOf(caches?.Action ?? []).includes(action), action);
    }
  });

  it("grant a task role that reaches this file system, log group and namespace only", () => {
    const task = resources.find(({ type, name }) => type === "aws_iam_role_policy" && name === "task");
    const { Statement: statements } = JSON.parse(String(task?.values["policy"])) as PolicyDocument;
    assert.deepEqual(
      statements.map(({ Resource: resource }) => resource),
      [
        outputs["efs_filesystem_arn"],
        `${outputs["log_group_arn"]}:*`,
        "arn:aws:servicediscovery:us-east-1:123456789012:service/*",
        `arn:aws:route53:::hostedzone/${attributeOf("aws_service_discovery_private_dns_namespace", "hosted_zone")}`,
      ],
    );
  });

  it("mount the file system over TLS and through mount targets only", () => {
    const { Statement: statements } = JSON.parse(
      String(attributeOf("aws_efs_file_system_policy", "policy")),
    ) as PolicyDocument;
    const [allow, deny] = statements;
    assert.deepEqual(allow?.Condition, { Bool: { "elasticfilesystem:AccessedViaMountTarget": "true" } });
    assert.equal(deny?.Effect, "Deny");
    assert.deepEqual(deny.Condition, { Bool: { "aws:SecureTransport": "false" } });
  });

  function policy(): PolicyDocument {
    return JSON.parse(String(outputs["backend_policy_json"])) as PolicyDocument;
  }

  function attributeOf(type: string, attribute: string): unknown {
    return resources.find((each) => each.type === type)?.values[attribute];
  }
});

function nameOf(arn: unknown): string {
  return String(arn).replace(/^.*\//, "");
}

/** A policy document with lists in order: for IAM they are sets. */
function normalise(document: PolicyDocument): unknown {
  return document.Statement.map((statement) => ({
    ...statement,
    Action: listOf(statement.Action).toSorted(),
    Resource: listOf(statement.Resource).toSorted(),
  })).toSorted((left, right) => left.Sid.localeCompare(right.Sid));
}

function listOf(value: string | readonly string[]): readonly string[] {
  return typeof value === "string" ? [value] : value;
}
