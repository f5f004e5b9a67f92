/**
 * The files of `deploy/container`, run as they stand: compose.yaml by the real compose on the local backend, and the task
 * definition by a simulated AWS. Both serve containers of that AWS, with the image that the checkout builds.
 */
import assert from "node:assert/strict";
import { cp, copyFile, chown, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { before, describe, it } from "node:test";

import {
  DescribeTasksCommand,
  ECSClient,
  RegisterTaskDefinitionCommand,
  type RegisterTaskDefinitionCommandInput,
  RunTaskCommand,
  StopTaskCommand,
} from "@aws-sdk/client-ecs";
import { parse } from "yaml";

import { makeCertificates, type TestCertificates } from "../support/certificates.ts";
import { findPlugin, installPlugin, pluginLimitMs } from "../support/cli-plugins.ts";
import { runCommand } from "../support/command.ts";
import { checkout, Daemon } from "../support/daemon.ts";
import {
  awsEnvironment,
  deniedCalls,
  documentedPolicy,
  EcsAccount,
  type EcsAccountOptions,
} from "../support/ecs-daemon.ts";
import { freePort } from "../support/free-port.ts";
import { TestRegistry } from "../support/registry.ts";
import { until } from "../support/until.ts";
import { buildImage, image, programInImage } from "./built-image.ts";
import { openWay, wayWithin } from "./loopback-ways.ts";
import { scratchDirectory } from "../support/scratch.ts";

const deployments = join(checkout, "deploy/container");
const user = 10001;
/** Values of the placeholders in the task definition. */
const service = {
  "service-execution-role": "service-execution",
  "backend-role": "service-backend",
  "service-log-group": "/sockerless/service",
};
/** Node's script that tells what a process of the container may do. */
const statusOfProcess = `(() => {
  const status = require("fs").readFileSync("/proc/1/status", "utf8");
  const of = (name) => status.match(new RegExp("^" + name + ":[ \t]+([0-9a-f]+)", "m"))[1];
  return JSON.stringify({ uid: of("Uid"), capabilities: of("CapBnd"), newPrivileges: of("NoNewPrivs") });
})()`;
/** Ways into a cloud, a first start there, and what a busy machine takes. */
const timeout = pluginLimitMs + 10 * 60_000;

describe("what deploy/container has", () => {
  const directory = scratchDirectory();
  let archive: string;
  let certificates: TestCertificates;

  before(async () => {
    archive = await buildImage(directory);
    certificates = await makeCertificates(directory);
  });

  /** The docker CLI at a port with mutual TLS. */
  const dockerAt = async (port: number, ...args: string[]): Promise<string> => {
    const { ca, cert, key } = certificates.client;
    const tls = ["--tlsverify", "--tlscacert", ca, "--tlscert", cert, "--tlskey", key];
    const { code, text, errorText } = await runCommand("docker", [
      ...["--host", `tcp://localhost:${port}`, ...tls, ...args],
    ]);
    assert.equal(code, 0, `docker ${args.join(" ")}: ${errorText}`);
    return text;
  };

  /** A simulated account whose services containers reach. */
  const openAccount = async (
    within: AsyncDisposableStack,
    options: Pick<EcsAccountOptions, "leastPrivilege"> = {},
  ): Promise<{ account: EcsAccount; router: string; registryPort: number }> => {
    let router = "";
    let registryPort = 0;
    const account = within.use(
      await EcsAccount.open({
        ...options,
        ecs: async (aws) => {
          router = aws.services.network.subnets()[0]?.routerAddress ?? "";
          registryPort = Number(new URL(`http://${aws.account.repositoryUri}`).port);
          const endpoint = new URL(aws.endpoint);
          for (const port of [Number(endpoint.port), registryPort]) {
            within.use(await openWay(router, port, { host: "127.0.0.1", port }));
          }
          return { endpoint: `http://${router}:${endpoint.port}` };
        },
      }),
    );
    return { account, router, registryPort };
  };

  it("serves by compose, is healthy, and comes back with its containers", { timeout }, async (t) => {
    const found = await findPlugin("compose");
    if ("missing" in found) {
      assert.equal(process.env["SOCKERLESS_WITHOUT_COMPOSE"], "1", found.missing);
      t.skip(found.missing);
      return;
    }
    await using within = new AsyncDisposableStack();
    const daemon = within.use(await Daemon.start());
    await installPlugin(daemon, found.path);
    await daemon.ok("load", "--input", archive);
    const { account, router, registryPort } = await openAccount(within);

    const project = join(directory, "project");
    await cp(deployments, project, { recursive: true });
    const config = parse(await readFile(join(account.directory, "config.yaml"), "utf8")) as {
      ecs: Record<string, unknown>;
    };
    const { agent_ca: _, ...ecs } = config.ecs; // It is made in its volume.
    await writeFile(join(project, "sockerless.yaml"), JSON.stringify({ backend: "ecs", ecs }));
    await mkdir(join(project, "tls"));
    const { ca, cert, key } = certificates.server;
    await copyFile(ca, join(project, "tls/ca.pem"));
    await copyFile(cert, join(project, "tls/cert.pem"));
    await copyFile(key, join(project, "tls/key.pem"));
    await chown(join(project, "tls/key.pem"), user, user);
    // The simulated registry is at the loopback interface.
    await writeFile(
      join(project, "ways.yaml"),
      JSON.stringify({
        services: {
          ways: {
            image,
            network_mode: "service:sockerless",
            entrypoint: ["node", "--eval", wayWithin(router, [registryPort]).replaceAll("$", "$$$$")],
            healthcheck: { test: ["CMD", "node", "--version"], interval: "1s" },
            stop_grace_period: "1s",
          },
        },
      }),
    );
    const port = await freePort();
    const compose = async (...args: string[]): Promise<string> => {
      const files = ["--file", "compose.yaml", "--file", "ways.yaml"];
      const result = await daemon.dockerWith(
        {
          cwd: project,
          env: {
            ...daemon.clientEnv,
            ...awsEnvironment(account.aws.credentials),
            SOCKERLESS_PORT: String(port),
          },
        },
        ...["compose", "--ansi", "never", ...files, ...args],
      );
      const logs = await daemon.docker("logs", "sockerless-sockerless-1");
      assert.equal(result.code, 0, `${result.errorText}\n${logs.text}\n${logs.errorText}`);
      return result.text;
    };
    within.defer(async () => {
      await compose("down", "--volumes");
    });
    await compose("up", "--detach", "--wait");
    const inspected = (format: string): Promise<string> =>
      daemon.ok("inspect", `--format=${format}`, "sockerless-sockerless-1");
    assert.equal(await inspected("{{.State.Health.Status}}"), "healthy");
    assert.equal(await inspected("{{.Config.User}}"), `${user}:${user}`);
    const status = await compose("exec", "-T", "sockerless", "node", "--print", statusOfProcess);
    assert.deepEqual(JSON.parse(status), {
      uid: String(user),
      capabilities: "0000000000000000",
      newPrivileges: "1",
    });
    assert.match(
      await compose("exec", "-T", "sockerless", "node", programInImage, "healthcheck"),
      /^backend: ok\nstate: ok\n/,
    );

    assert.match(await dockerAt(port, "run", "--name=first", "sockerless/hello"), /Hello/i);
    await compose("up", "--detach", "--wait", "--force-recreate");
    assert.equal(await dockerAt(port, "ps", "--all", "--format={{.Names}}"), "first");
    assert.match(await dockerAt(port, "logs", "first"), /Hello/i);
    await dockerAt(port, "rm", "--force", "first");
  });

  it("serves as a task of Fargate with no more rights than documented, and is healthy", {
    timeout,
  }, async () => {
    await using within = new AsyncDisposableStack();
    const { account, router, registryPort } = await openAccount(within, { leastPrivilege: true });
    const { aws } = account;
    await prepareService(account, certificates);
    const registry = within.use(await TestRegistry.start());
    const reference = `${registry.host}/sockerless:service`;
    const pushed = await runCommand("skopeo", [
      ...["copy", "--quiet", "--dest-tls-verify=false", `oci-archive:${archive}`, `docker://${reference}`],
    ]);
    assert.equal(pushed.code, 0, pushed.errorText);
    const definition = aws.fillDocument(await readFile(join(deployments, "task-definition.json"), "utf8"), {
      ...service,
      image: reference,
    }) as RegisterTaskDefinitionCommandInput;
    const client = within.adopt(new ECSClient(aws.clientConfig), (each) => each.destroy());
    const ways = {
      name: "ways",
      image: reference,
      essential: false,
      entryPoint: ["node", "--eval", wayWithin(router, [registryPort])],
    };
    const registered = await client.send(
      new RegisterTaskDefinitionCommand({
        ...definition,
        containerDefinitions: [...(definition.containerDefinitions ?? []), ways],
      }),
    );
    const port = Number(definition.containerDefinitions?.at(-1)?.portMappings?.[0]?.containerPort);
    const { securityGroupId, subnetIds, cluster, vpcId } = aws.account;
    const { groups } = aws.services.network;
    const clients = groups.create("clients", "clients of the service", {}, vpcId).groupId;
    const docker = { protocol: "tcp", fromPort: port, toPort: port, peer: { cidr: `${router}/32` } } as const;
    groups.authorize(clients, [{ groupId: clients, direction: "ingress", ...docker }], {});
    const { tasks = [], failures } = await client.send(
      new RunTaskCommand({
        cluster,
        taskDefinition: registered.taskDefinition?.taskDefinitionArn ?? "",
        launchType: "FARGATE",
        networkConfiguration: {
          awsvpcConfiguration: { subnets: [...subnetIds], securityGroups: [securityGroupId, clients] },
        },
      }),
    );
    assert.deepEqual(failures, []);
    const task = tasks[0]?.taskArn ?? "";
    const told = async () => {
      const described = await client.send(new DescribeTasksCommand({ cluster, tasks: [task] }));
      return described.tasks?.[0] ?? assert.fail("the task is unknown");
    };
    await until(async () => {
      const { lastStatus, healthStatus, stoppedReason } = await told();
      assert.notEqual(lastStatus, "STOPPED", stoppedReason ?? "");
      return healthStatus === "HEALTHY" || undefined;
    });
    const local = await freePort();
    // The certificate names localhost.
    within.use(await openWay("127.0.0.1", local, { host: aws.ecs.task(task).address ?? "", port }));
    assert.match(await dockerAt(local, "run", "--rm", "sockerless/hello"), /Hello/i);
    assert.deepEqual(deniedCalls(aws), []);
    await client.send(new StopTaskCommand({ cluster, task }));
    const { containers = [] } = await until(async () => {
      const now = await told();
      return now.lastStatus === "STOPPED" ? now : undefined;
    });
    const ended = containers.map(({ name, exitCode }) => [name, exitCode]);
    assert.deepEqual(Object.fromEntries(ended), { prepare: 0, sockerless: 0, ways: 0 });
  });
});

/** Makes what the service needs in the account beside its task definition: roles, a log group, secrets. */
async function prepareService({ aws, directory }: EcsAccount, { server }: TestCertificates): Promise<void> {
  const trusted = ["ecs-tasks.amazonaws.com"];
  aws.iam.addRole(service["backend-role"], {
    trusted,
    policies: [await documentedPolicy(aws, "backend-policy.json")],
  });
  aws.services.logs.createGroup(service["service-log-group"]);
  aws.iam.addRole(service["service-execution-role"], {
    trusted,
    policies: [
      {
        Version: "2012-10-17",
        Statement: [
          {
            Effect: "Allow",
            Action: ["logs:CreateLogStream", "logs:PutLogEvents"],
            Resource: `arn:aws:logs:${aws.region}:${aws.accountId}:log-group:${service["service-log-group"]}:*`,
          },
          {
            Effect: "Allow",
            Action: "secretsmanager:GetSecretValue",
            Resource: `arn:aws:secretsmanager:${aws.region}:${aws.accountId}:secret:sockerless/*`,
          },
        ],
      },
    ],
  });
  const config = parse(await readFile(join(directory, "config.yaml"), "utf8")) as { ecs: object };
  const { agent_ca: _, ...ecs } = config.ecs as { readonly agent_ca: string };
  const files = { "tls-ca": server.ca, "tls-cert": server.cert, "tls-key": server.key };
  const secrets = {
    config: JSON.stringify({ backend: "ecs", ecs }),
    "agent-ca": await agentAuthority(directory),
    ...Object.fromEntries(
      await Promise.all(
        Object.entries(files).map(async ([name, path]) => [name, await readFile(path, "utf8")] as const),
      ),
    ),
  };
  for (const [name, text] of Object.entries(secrets)) {
    aws.services.secrets.create(`sockerless/${name}`, text);
  }
}

/** Key and certificate of an authority over the agents, in PEM. */
async function agentAuthority(directory: string): Promise<string> {
  const [key, cert] = [join(directory, "authority-key.pem"), join(directory, "authority.pem")];
  const made = await runCommand("openssl", [
    ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"],
    ...["-subj", "/CN=agent-ca", "-addext", "basicConstraints=critical,CA:TRUE,pathlen:0"],
    ...["-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout", key, "-out", cert],
  ]);
  assert.equal(made.code, 0, made.errorText);
  return `${await readFile(key, "utf8")}${await readFile(cert, "utf8")}`;
}
