/** Accounts that are set up in other ways than the one of the other tests: a slow one with Spot, one with secrets. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { it } from "node:test";
import { promisify } from "node:util";

import { CreateRepositoryCommand, ECRClient, GetAuthorizationTokenCommand } from "@aws-sdk/client-ecr";
import { CreateAccessPointCommand, EFSClient } from "@aws-sdk/client-efs";

import type { Aws } from "../simulators/aws/aws.ts";
import { checkout } from "../support/daemon.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { busyboxImage } from "../support/images.ts";
import { filesWithCredentials, hasCredentials, registryUser, TestRegistry } from "../support/registry.ts";
import { until } from "../support/until.ts";
import { allLag } from "../simulators/aws/switches.ts";

/** Milliseconds: short beside AWS's, and longer than what is done without a pause. */
const slow = {
  delays: {
    provisioning: 500,
    pending: 500,
    pull: 500,
    activating: 500,
    stopping: 500,
    cloudMapOperation: 500,
    accessPoint: 500,
    logIngestion: 500,
  },
  switches: { eventualConsistencyMs: allLag(1000) },
};

it("a cloud that takes its time, and tells late what it has made, is waited for; Spot's interruption is told", async () => {
  await using under = await EcsDaemon.start({ aws: slow, ecs: { capacity_provider: "FARGATE_SPOT" } });
  const { daemon, aws } = under;
  await daemon.ok("network", "create", "own");
  const shared = ["--network", "own", "--volume", "data:/data"];
  const id = await daemon.ok("run", "--detach", "--name", "db", ...shared, "busybox", "sleep", "1000");
  const script = "echo kept > /data/file; ping -c 1 -w 1 db | grep -q ^PING && cat /data/file";
  assert.equal(await daemon.ok("run", "--rm", ...shared, "busybox", "sh", "-c", script), "kept");
  const task = aws.ecs.tasks.find(({ state }) => JSON.stringify(state.overrides).includes(id));
  assert.ok(task);
  aws.ecs.interruptSpot(task.state.taskArn); // Refuses where it is not one.
  assert.notEqual(await daemon.ok("wait", "db"), "0");
  // Why is asked for behind the exit.
  await until(
    async () => /Spot/.test(await daemon.ok("inspect", "--format", "{{.State.Error}}", "db")) || undefined,
  );
});

it("tasks take the agent from a file system, and a private image with the credentials of a secret", async () => {
  await using registry = await TestRegistry.start({ credentials: true });
  await registry.push("secret/box", "latest", await busyboxImage({ Cmd: ["echo", "secret"] }));
  await using under = await EcsDaemon.start({
    ecs: async (aws) => ({
      agent_access_point_id: await agentOnFileSystem(aws),
      registry_credentials: [
        `${registry.host}=${aws.services.secrets.create("registry", JSON.stringify(registryUser))}`,
      ],
    }),
  });
  const { daemon, aws } = under;
  const login = ["login", "-u", registryUser.username, "--password-stdin", registry.host];
  assert.equal((await daemon.dockerWith({ input: registryUser.password }, ...login)).code, 0);
  assert.equal(await daemon.ok("run", "--rm", "--quiet", `${registry.host}/secret/box`), "secret");
  assert.deepEqual(await filesWithCredentials(daemon.stateDir), []);
  const [registered] = aws.calls.all("ecs.RegisterTaskDefinition");
  assert.ok(registered);
  for (const operation of ["RegisterTaskDefinition", "RunTask"]) {
    assert.equal(hasCredentials(JSON.stringify(aws.calls.all(`ecs.${operation}`))), false, operation);
  }
  const { containerDefinitions } = registered.input as { containerDefinitions: { name: string }[] };
  assert.deepEqual(
    containerDefinitions.map(({ name }) => name),
    ["main"],
  );
});

it("tasks pull from the cache that is configured for a registry; a role that is not there fails the start by name", async () => {
  await using under = await (async () => {
    await using registry = await TestRegistry.start();
    await registry.push("team/box", "latest", await busyboxImage({ Cmd: ["echo", "cached"] }));
    const started = await EcsDaemon.start({
      ecs: async (aws) => ({ pull_through_caches: [`${registry.host}=${cacheOf(aws)}`] }),
    });
    const { daemon, aws } = started;
    await daemon.ok("pull", "--quiet", `${registry.host}/team/box`);
    await daemon.ok("tag", `${registry.host}/team/box`, "box");
    await fillCache(aws, registry.host, "team/box");
    return started;
  })();
  const { daemon, aws } = under;
  assert.equal(await daemon.ok("run", "--rm", "box"), "cached", "its registry is away");
  aws.iam.removeRole(aws.account.executionRoleArn);
  const refused = await daemon.docker("run", "box");
  assert.equal(refused.code, 125);
  assert.match(refused.errorText, /ECS was unable to assume the role '.*' that was provided for this task/);
});

/** Copies an image as it is, as ECR does when a task pulls it for the first time. */
async function fillCache(aws: Aws, registry: string, repository: string): Promise<void> {
  const ecr = new ECRClient(aws.clientConfig);
  await ecr.send(new CreateRepositoryCommand({ repositoryName: `cache/${repository}` }));
  const { authorizationData: [authorization] = [] } = await ecr.send(new GetAuthorizationTokenCommand({}));
  ecr.destroy();
  const credentials = Buffer.from(authorization?.authorizationToken ?? "", "base64").toString();
  const plain = ["--src-tls-verify=false", "--dest-tls-verify=false", "--preserve-digests"];
  const names = [`docker://${registry}/${repository}`, `docker://${cacheOf(aws)}/${repository}`];
  await promisify(execFile)("skopeo", ["copy", ...plain, "--dest-creds", credentials, ...names]);
}

/** Repositories that stand for the account's pull-through cache. */
function cacheOf({ account }: Aws): string {
  return `${account.repositoryUri.slice(0, account.repositoryUri.lastIndexOf("/"))}/cache`;
}

/** Puts the agent on the account's file system. @returns its access point */
async function agentOnFileSystem(aws: Aws): Promise<string> {
  const { fileSystemId, directory } = aws.account.fileSystem;
  await mkdir(join(directory, "agent"));
  await cp(join(checkout, "build/sockerless-agent"), join(directory, "agent/sockerless-agent"));
  const client = new EFSClient(aws.clientConfig);
  const made = await client.send(
    new CreateAccessPointCommand({
      ClientToken: "agent",
      FileSystemId: fileSystemId,
      RootDirectory: { Path: "/agent" },
    }),
  );
  client.destroy();
  return made.AccessPointId ?? "";
}
