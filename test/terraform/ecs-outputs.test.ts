/** Values that the ECS module hands on: the configuration, the policies, the outputs. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { before, describe, it } from "node:test";

import { loadConfig } from "../../src/common/config/load.ts";
import { checkout } from "../support/daemon.ts";
import { actionsWithoutResource, conditionsWithoutResource } from "./criteria/roles.ts";
import { HclModule, readSources } from "./hcl-module.ts";
import { moduleCall } from "./module-call.ts";
import { samples } from "./samples.ts";
import { type PlannedResource, skip, Workspace } from "./terraform.ts";
import { duringTests } from "../support/during-tests.ts";
import { inSoak } from "../support/soak.ts";

const secretsKey = "arn:aws:kms:us-east-1:123456789012:key/1";

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
  let outputs: Readonly<Record<string, unknown>>;
  let resources: readonly PlannedResource[];

  const workspace = duringTests(async () => {
    const { outputs: all } = await HclModule.parse(readSources("modules/ecs"));
    return await Workspace.create(
      moduleCall(
        "ecs",
        {
          agent_ingress_security_group_ids: ["sg-0123456789abcdef0"],
          efs_administrator_role_arns: ["arn:aws:iam::123456789012:role/administrator"],
          pull_through_caches: { "docker.io": "docker-hub" },
          secrets_kms_key_arn: secretsKey,
          state_services: ["sockerless"],
        },
        [...all.keys()],
      ),
    );
  });
  before(async () => {
    await workspace.planAndApply();
    outputs = await workspace.outputs();
    resources = await workspace.resources();
  });

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
        efsIam: ecs.efsIam,
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
        efsIam: true,
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

  it("hold a configuration for agents that call, where nobody is let in", inSoak, async () => {
    await using other = await Workspace.create(
      moduleCall(
        "ecs",
        { callback_url: "wss://sockerless.example.com:8443", callback_listen: "tcp://[::]:9443" },
        ["sockerless_config", "task_role_arn"],
      ),
    );
    await other.planAndApply();
    const all = await other.outputs();
    const file = join(other.directory, "config.yaml");
    await writeFile(file, String(all["sockerless_config"]));
    const { config, warnings } = loadConfig({ command: "serve", environment: {}, uid: 0, file });
    assert.ok(config.backend === "ecs");
    assert.deepEqual(warnings, []);
    const { agentMode, callbackUrl, callbackListen, agentIngress, taskRoleArn } = config.ecs;
    assert.deepEqual(
      { agentMode, callbackUrl, callbackListen, agentIngress, taskRoleArn },
      {
        agentMode: "callback",
        callbackUrl: "wss://sockerless.example.com:8443",
        callbackListen: "tcp://[::]:9443",
        agentIngress: [],
        taskRoleArn: all["task_role_arn"],
      },
    );
  });

  it("hold the backend's policy, which is deploy/iam/backend-policy.json with names filled in", () => {
    assert.deepEqual(normalise(documented("backend-policy.json")), normalise(policy()));
  });

  it("hold a backend's policy that fits into a managed policy, even with long names and in GovCloud", () => {
    const longest = String(outputs["backend_policy_json"])
      .replaceAll("arn:aws:", "arn:aws-us-gov:")
      .replaceAll("us-east-1", "ap-southeast-2")
      .replaceAll(/\/sockerless(?!-)/g, `/${"n".repeat(24)}`);
    assert.ok(longest.replaceAll(/\s/g, "").length <= 6144, `${longest.length} characters`);
  });

  it('allow "*" only for actions without a resource, or for one cluster or tag', () => {
    for (const statement of policy().Statement) {
      assert.equal(statement.Effect, "Allow");
      if (!listOf(statement.Resource).includes("*")) {
        continue;
      }
      const keys = Object.values(statement.Condition ?? {}).flatMap((keysOf) => Object.keys(keysOf));
      const needed = conditionsWithoutResource[listOf(statement.Action).join()];
      const isNarrowed = needed?.every((key) => keys.includes(key)) === true;
      const widened = listOf(statement.Action).filter((action) => !actionsWithoutResource.has(action));
      assert.ok(isNarrowed || widened.length === 0, widened.join());
    }
  });

  it("grant an execution role that may fill the pull-through caches which the configuration names", () => {
    const caches = execution().find(({ Sid }) => Sid === "PullThroughCaches");
    assert.equal(caches?.Resource, "arn:aws:ecr:us-east-1:123456789012:repository/docker-hub/*");
    for (const action of ["ecr:BatchImportUpstreamImage", "ecr:CreateRepository"]) {
      assert.ok(listOf(caches?.Action ?? []).includes(action), action);
    }
  });

  it("grant an execution role that may decrypt the registries' secrets with the customer's key", () => {
    const decrypting = execution().find(({ Action }) =>
      listOf(Action).some((each) => each.startsWith("kms:")),
    );
    assert.deepEqual([decrypting?.Action, decrypting?.Resource], ["kms:Decrypt", secretsKey]);
  });

  it("grant a task role what deploy/iam/task-policy.json says, which names what the module made", () => {
    const task = resources.find(({ type, name }) => type === "aws_iam_role_policy" && name === "task");
    const written = JSON.parse(String(task?.values["policy"])) as PolicyDocument;
    assert.deepEqual(normalise(documented("task-policy.json")), normalise(written));
  });

  it("close the file system by deploy/iam/file-system-policy.json, with names filled in", () => {
    const written = JSON.parse(String(attributeOf("aws_efs_file_system_policy", "policy"))) as PolicyDocument;
    assert.deepEqual(normalise(documented("file-system-policy.json")), normalise(written));
  });

  it("hand a service its state, which nobody mounts but the role that the service's module makes", async () => {
    const { sockerless: state } = outputs["state_efs"] as Record<string, Readonly<Record<string, string>>>;
    assert.equal(state?.["access_point_arn"], attributeOf("aws_efs_access_point", "arn"));
    const { required } = samples["ecs-service"];
    await using service = await Workspace.create(
      moduleCall("ecs-service", { ...required, name: "sockerless", state_efs: state }, ["backend_role_arn"]),
    );
    await service.planAndApply();
    const { backend_role_arn: role } = await service.outputs();
    const { Statement: statements } = documented("file-system-policy.json");
    assert.equal(
      statements.find(({ Sid }) => Sid === "State0")?.Condition?.["ArnNotEquals"]?.["aws:PrincipalArn"],
      role,
    );
  });

  /** The statements of the execution role. */
  function execution(): readonly Statement[] {
    const policy = resources.find(({ type, name }) => type === "aws_iam_role_policy" && name === "execution");
    return (JSON.parse(String(policy?.values["policy"])) as PolicyDocument).Statement;
  }

  /** A policy of deploy/iam for what the module made. */
  function documented(name: string): PolicyDocument {
    const document = readFileSync(join(checkout, "deploy/iam", name), "utf8");
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
      "administrator-role": "administrator",
      "backend-role": "sockerless-service-us-east-1-backend",
      "state-access-point": attributeOf("aws_efs_access_point", "id"),
    };
    const filledIn = document.replaceAll(/<([a-z-]+)>/g, (placeholder, key: string) => {
      assert.ok(key in values, `${placeholder} is known`);
      return String(values[key]);
    });
    return JSON.parse(filledIn) as PolicyDocument;
  }

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
    Condition: Object.entries(statement.Condition ?? {})
      .flatMap(([test, keys]) =>
        Object.entries(keys).map(([key, wanted]) => `${test} ${key} ${listOf(wanted).toSorted().join()}`),
      )
      .toSorted(),
    Action: listOf(statement.Action).toSorted(),
    Resource: listOf(statement.Resource).toSorted(),
  })).toSorted((left, right) => left.Sid.localeCompare(right.Sid));
}

function listOf(value: string | readonly string[]): readonly string[] {
  return typeof value === "string" ? [value] : value;
}
