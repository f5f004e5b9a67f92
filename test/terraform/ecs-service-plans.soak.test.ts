/** sockerless as an ECS service: what Terraform makes of it, and that its task definition would start. */
import assert from "node:assert/strict";
import { mkdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";

import { parse as parseYaml } from "yaml";

import { settings } from "../../src/common/config/settings.ts";
import { runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { HclModule, readSources } from "./hcl-module.ts";
import { moduleCall } from "./module-call.ts";
import { samples } from "./samples.ts";
import { type PlannedResource, skip, Workspace } from "./terraform.ts";
import { scratchDirectory } from "../support/scratch.ts";

const { required } = samples["ecs-service"];
const stateEfs = {
  access_point_arn: "arn:aws:elasticfilesystem:us-east-1:123456789012:access-point/fsap-0c",
  filesystem_id: "fs-0a",
  security_group_id: "sg-0b",
};

/** Options that several tests look at, each at its own. */
const variants = {
  backend_policy_json: JSON.stringify({ Version: "2012-10-17", Statement: [{ Sid: "Marked" }] }),
  secrets_kms_key_arn: "arn:aws:kms:us-east-1:123456789012:key/1",
  client_cidrs: ["10.0.0.0/16"],
};

interface ContainerDefinition {
  readonly name: string;
  readonly user: string;
  readonly entryPoint?: readonly string[];
  readonly command?: readonly string[];
  readonly environment: readonly { readonly name: string; readonly value: string }[];
  readonly secrets: readonly { readonly name: string; readonly valueFrom: string }[];
  readonly healthCheck?: { readonly command: readonly string[]; readonly interval: number };
  readonly dependsOn?: readonly { readonly containerName: string; readonly condition: string }[];
  readonly mountPoints: readonly { readonly sourceVolume: string; readonly containerPath: string }[];
  readonly readonlyRootFilesystem: boolean;
}

describe("the ECS service module in Terraform", { skip, concurrency: 2 }, () => {
  for (const [title, variables] of [
    ["state on EFS, found by name", { state_efs: stateEfs, cloud_map: { namespace_id: "ns-0a" } }],
    ["state rebuilt, with a load balancer", { enable_load_balancer: true, client_cidrs: ["10.0.0.0/16"] }],
  ] as const) {
    it(`is planned, applied, unchanged by a second plan, and destroyed: ${title}`, async () => {
      await using workspace = await Workspace.create(
        moduleCall("ecs-service", { ...required, ...variables }),
      );
      assert.deepEqual(await workspace.validate(), []);
      await workspace.planAndApply();
      assert.deepEqual((await workspace.plan()).changes, []);
      await workspace.destroy();
      assert.deepEqual(await workspace.resources(), []);
    });
  }

  it("never runs two tasks at once", async () => {
    const [service] = (await apply({})).filter(({ type }) => type === "aws_ecs_service");
    assert.equal(service?.values["desired_count"], 1);
    assert.equal(service?.values["deployment_minimum_healthy_percent"], 0);
    assert.equal(service?.values["deployment_maximum_percent"], 100);
    assert.equal(service?.values["availability_zone_rebalancing"], "DISABLED");
  });

  it("gives the service the backend's policy, and nobody else", async () => {
    const policy = variants.backend_policy_json;
    const resources = await apply(variants);
    const granted = resources.filter(({ values }) => values["policy"] === policy);
    assert.deepEqual(
      granted.map(({ type, values }) => [type, values["role"]]),
      [["aws_iam_role_policy", "sockerless-service-us-east-1-backend"]],
    );
  });

  it("has roles for tasks of this account and region alone, one of which reads its secrets and writes its log", async () => {
    const resources = await apply(variants);
    const trusted = resources
      .filter(({ type }) => type === "aws_iam_role")
      .map(({ values }) => JSON.parse(String(values["assume_role_policy"])) as unknown);
    const trust = {
      Version: "2012-10-17",
      Statement: [
        {
          Effect: "Allow",
          Action: "sts:AssumeRole",
          Principal: { Service: "ecs-tasks.amazonaws.com" },
          Condition: {
            StringEquals: { "aws:SourceAccount": "123456789012" },
            ArnLike: { "aws:SourceArn": "arn:aws:ecs:us-east-1:123456789012:*" },
          },
        },
      ],
    };
    assert.deepEqual(trusted, [trust, trust]);
    const rights = resources.find(({ type, name }) => type === "aws_iam_role_policy" && name === "execution");
    const { Statement: statements } = JSON.parse(String(rights?.values["policy"]));
    const secrets = required["tls_secret_arns"] as Readonly<Record<string, string>>;
    assert.deepEqual(statements, [
      {
        Sid: "WriteLog",
        Effect: "Allow",
        Action: ["logs:CreateLogStream", "logs:PutLogEvents"],
        Resource: "arn:aws:logs:us-east-1:123456789012:log-group:/sockerless/service:*",
      },
      {
        Sid: "ReadSecrets",
        Effect: "Allow",
        Action: "secretsmanager:GetSecretValue",
        Resource: [required["agent_ca_secret_arn"], ...Object.values(secrets)],
      },
      {
        Sid: "DecryptSecrets",
        Effect: "Allow",
        Action: "kms:Decrypt",
        Resource: "arn:aws:kms:us-east-1:123456789012:key/1",
      },
    ]);
  });

  it("lets clients in to the Docker port only, and itself to the agents", async () => {
    const resources = await apply(variants);
    const ingress = resources
      .filter(({ type }) => type === "aws_vpc_security_group_ingress_rule")
      .map(({ values }) => [values["cidr_ipv4"], values["from_port"], values["to_port"]]);
    assert.deepEqual(ingress.toSorted(), [
      [null, 9111, 9111],
      ["10.0.0.0/16", 2376, 2376],
    ]);
  });

  it("hands over a configuration, mutual TLS and the agents' authority that sockerless understands", async () => {
    const config = "backend: ecs\necs:\n  cluster: sockerless\n  agent_ingress: [10.0.0.0/8]\n";
    const { sockerless } = await containers({ sockerless_config: config, docker_port: 2377 });
    const command = sockerless.command ?? [];
    assert.equal(command[0], "serve");
    assert.ok(command.includes("tcp://0.0.0.0:2377"));
    const known = new Set(
      settings.filter(({ commands }) => commands.includes("serve")).map(({ flag }) => `--${flag}`),
    );
    const flags = command.filter((argument) => argument.startsWith("--"));
    for (const flag of ["--tlscacert", "--tlscert", "--tlskey"]) {
      assert.ok(flags.includes(flag), flag);
    }
    assert.deepEqual(
      flags.filter((flag) => !known.has(flag) && flag !== "--config"),
      [],
    );
    const variables = new Set(settings.map(({ variable }) => variable));
    const given = [...sockerless.environment, ...sockerless.secrets].map(({ name }) => name);
    assert.deepEqual(
      given.filter((name) => !variables.has(name)),
      ["TMPDIR"],
    );
    const ingress = sockerless.environment.find(({ name }) => name === "SOCKERLESS_ECS_AGENT_INGRESS");
    assert.match(ingress?.value ?? "", /^10\.0\.0\.0\/8,sg-/);
    assert.deepEqual(sockerless.dependsOn, [{ containerName: "prepare", condition: "SUCCESS" }]);
    assert.deepEqual([sockerless.user, sockerless.readonlyRootFilesystem], ["10001", true]);
  });

  it("prepares and watches the service as the task definition without Terraform does", async () => {
    const { containerDefinitions } = JSON.parse(
      await readFile(join(checkout, "deploy/container/task-definition.json"), "utf8"),
    ) as { containerDefinitions: readonly ContainerDefinition[] };
    const { prepare, sockerless } = await containers({});
    const essentials = ({ name, user, entryPoint, dependsOn, healthCheck }: ContainerDefinition) => ({
      ...{ name, user, entryPoint, dependsOn, healthCheck },
    });
    assert.deepEqual(containerDefinitions.map(essentials), [prepare, sockerless].map(essentials));
  });

  it("keeps keys out of the plain environment", async () => {
    const { prepare, sockerless } = await containers({});
    assert.deepEqual(
      new Set([...prepare.secrets, ...sockerless.secrets].map(({ name }) => name)),
      new Set(["SOCKERLESS_ECS_AGENT_CA", "TLS_CA", "TLS_CERT", "TLS_KEY"]),
    );
  });

  it("writes the files that the service reads", async () => {
    const { prepare, sockerless } = await containers({});
    const directory = scratchDirectory();
    const [program, flag, script = ""] = prepare.entryPoint ?? [];
    assert.deepEqual([program, flag], ["node", "--eval"]);
    await mkdir(join(directory, "run"));
    const environment = Object.fromEntries(prepare.environment.map(({ name, value }) => [name, value]));
    const secrets = Object.fromEntries(prepare.secrets.map(({ name }) => [name, `PEM of ${name}`]));
    const moved = script.replaceAll("/run/sockerless", join(directory, "run"));
    const mine = process.getuid?.() === 0 ? moved : moved.replaceAll(/^\s*chownSync.*$/gm, "");
    const { code, errorText } = await runCommand(process.execPath, ["--eval", mine], {
      env: { ...environment, ...secrets },
    });
    assert.equal(code, 0, errorText);
    const written = (sockerless.command ?? [])
      .filter((argument) => /^\/run\/sockerless\/.*\.(pem|yaml)$/.test(argument))
      .map((argument) => argument.replace("/run/sockerless", join(directory, "run")));
    assert.equal(written.length, 4);
    for (const path of written) {
      assert.equal((await stat(path)).mode & 0o777, 0o400, path);
    }
    assert.deepEqual(parseYaml(await readFile(join(directory, "run/config.yaml"), "utf8")), {
      ecs: { cluster: "sockerless" },
    });
    assert.equal(await readFile(join(directory, "run/key.pem"), "utf8"), "PEM of TLS_KEY");
  });

  it("keeps the state on EFS behind the access point that it is given, over TLS, with its own role", async () => {
    const resources = await apply({ state_efs: stateEfs });
    const definition = resources.find(({ type }) => type === "aws_ecs_task_definition");
    const volumes = definition?.values["volume"] as Record<string, unknown>[];
    const state = volumes.find(({ name }) => name === "state");
    const [efs = {}] = (state?.["efs_volume_configuration"] ?? []) as Record<string, unknown>[];
    assert.equal(efs["transit_encryption"], "ENABLED");
    const [authorization] = (efs["authorization_config"] ?? []) as Record<string, unknown>[];
    assert.deepEqual(authorization, { access_point_id: "fsap-0c", iam: "ENABLED" });
    const rights = resources.find(({ type, name }) => type === "aws_iam_role_policy" && name === "state");
    const { Statement: statements } = JSON.parse(String(rights?.values["policy"]));
    assert.deepEqual(statements, [
      {
        Sid: "State",
        Effect: "Allow",
        Action: ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"],
        Resource: "arn:aws:elasticfilesystem:us-east-1:123456789012:file-system/fs-0a",
        Condition: { ArnEquals: { "elasticfilesystem:AccessPointArn": stateEfs.access_point_arn } },
      },
    ]);
    const { sockerless } = definitionsOf(resources);
    const mount = sockerless.mountPoints.find(({ sourceVolume }) => sourceVolume === "state");
    const flag = (sockerless.command ?? []).indexOf("--state-dir");
    assert.equal(sockerless.command?.[flag + 1], mount?.containerPath);
  });
});

describe("the ECS service module", () => {
  it("describes all variables and outputs", async () => {
    const { variables, outputs } = await HclModule.parse(readSources("modules/ecs-service"));
    for (const [name, body] of [...variables, ...outputs]) {
      assert.ok(String(body["description"] ?? "").length > 10, name);
    }
  });

  it("has memory for all that clients may have held at once, with Terraform and without", async () => {
    const { variables } = await HclModule.parse(readSources("modules/ecs-service"));
    const path = join(checkout, "deploy/container/task-definition.json");
    const { cpu, memory } = JSON.parse(await readFile(path, "utf8")) as { cpu: string; memory: string };
    const defaults = ["cpu", "memory"].map((name) => String(variables.get(name)?.["default"]));
    assert.deepEqual(defaults, [cpu, memory]);
    const [windowsMib, documentsMib] = [1024, 640]; // docs/security.md
    assert.ok(Number(memory) >= 2 * (windowsMib + documentsMib), memory);
  });
});

const applied = new Map<string, Promise<readonly PlannedResource[]>>();

/** Resources that the module makes of these variables: applied once, for all tests that look at them. */
function apply(variables: Readonly<Record<string, unknown>>): Promise<readonly PlannedResource[]> {
  const key = JSON.stringify(variables);
  const resources = applied.get(key) ?? applyNew(variables);
  applied.set(key, resources);
  return resources;
}

async function applyNew(variables: Readonly<Record<string, unknown>>): Promise<readonly PlannedResource[]> {
  await using workspace = await Workspace.create(moduleCall("ecs-service", { ...required, ...variables }));
  await workspace.planAndApply();
  return await workspace.resources();
}

async function containers(
  variables: Readonly<Record<string, unknown>>,
): Promise<{ prepare: ContainerDefinition; sockerless: ContainerDefinition }> {
  return definitionsOf(await apply(variables));
}

function definitionsOf(resources: readonly PlannedResource[]): {
  prepare: ContainerDefinition;
  sockerless: ContainerDefinition;
} {
  const definition = resources.find(({ type }) => type === "aws_ecs_task_definition");
  const [prepare, sockerless] = JSON.parse(
    String(definition?.values["container_definitions"]),
  ) as ContainerDefinition[];
  assert.ok(prepare?.name === "prepare" && sockerless?.name === "sockerless");
  return { prepare, sockerless };
}
