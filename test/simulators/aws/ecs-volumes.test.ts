import assert from "node:assert/strict";
import { test } from "node:test";
import type { ContainerDefinition, Volume } from "@aws-sdk/client-ecs";
import { CreateAccessPointCommand, type CreateAccessPointCommandInput, EFSClient } from "@aws-sdk/client-efs";
import { EcsScene, exitCodes } from "./ecs-scene.ts";
import { duringTests } from "../../support/during-tests.ts";

const scene = duringTests(() => EcsScene.start());

const mounted: Partial<ContainerDefinition> = {
  mountPoints: [{ sourceVolume: "data", containerPath: "/data" }],
};

async function accessPoint(
  request: Pick<CreateAccessPointCommandInput, "PosixUser" | "RootDirectory">,
): Promise<Volume> {
  const { fileSystemId } = scene.aws.account.fileSystem;
  const { AccessPointId: accessPointId = "" } = await new EFSClient(scene.aws.clientConfig).send(
    new CreateAccessPointCommand({
      ClientToken: crypto.randomUUID(),
      FileSystemId: fileSystemId,
      ...request,
    }),
  );
  return {
    name: "data",
    efsVolumeConfiguration: {
      fileSystemId,
      transitEncryption: "ENABLED",
      authorizationConfig: { accessPointId },
    },
  };
}

const made = (path: string, owner: number) => ({
  Path: path,
  CreationInfo: { OwnerUid: owner, OwnerGid: owner, Permissions: "0755" },
});

/** Runs a line of shell with the volume at /data; answers its exit code and what it wrote. */
async function withVolume(
  volume: Volume,
  script: string,
  more: Partial<ContainerDefinition> = {},
): Promise<{ readonly code: number | undefined; readonly lines: string[] }> {
  const definition = await scene.register([scene.shell("main", script, { ...mounted, ...more })], {
    volumes: [volume],
  });
  const taskArn = await scene.run(definition);
  const task = await scene.stopped(taskArn);
  assert.equal(task.stopCode, "EssentialContainerExited", task.stoppedReason ?? "");
  return { code: exitCodes(task)["main"], lines: scene.logged(taskArn, "main") };
}

/** The work of postgres' entrypoint, started as root, on its data directory for user 1000. */
const insistOnOwnership = `
set -e
mkdir -p /data/db
find /data/db ! -user 1000 -exec chown 1000 '{}' +
test "$(stat -c %u /data/db)" = 1000
echo initialised`;

test("two tasks share a file system, whoever they run as, through an access point with a forced user", async () => {
  const volume = await accessPoint({
    PosixUser: { Uid: 1000, Gid: 1000 },
    RootDirectory: made("/shared", 1000),
  });
  const first = await withVolume(
    volume,
    "echo from the first > /data/file; mkdir /data/dir; stat -c '%u:%g' /data /data/file /data/dir",
  );
  assert.deepEqual(first, { code: 0, lines: ["1000:1000", "1000:1000", "1000:1000"] });
  const second = await withVolume(
    volume,
    "cat /data/file; echo more >> /data/file; stat -c '%u %s' /data/file",
    {
      user: "1",
    },
  );
  assert.deepEqual(second, { code: 0, lines: ["from the first", "1000 20"] });
});

test("a forced user is who may: others' permissions do not count, and owners stay", async () => {
  const volume = await accessPoint({
    PosixUser: { Uid: 1000, Gid: 1000 },
    RootDirectory: made("/strict", 1000),
  });
  const script = "echo secret > /data/file; chmod 600 /data/file; chown 1 /data/file 2>&1; cat /data/file";
  const { lines } = await withVolume(volume, script);
  assert.equal(lines.length, 2);
  assert.match(lines[0] ?? "", /Operation not permitted/);
  assert.equal(lines[1], "secret");
  const { lines: asNobody } = await withVolume(volume, "cat /data/file", { user: "65534" });
  assert.deepEqual(asNobody, ["secret"]);
});

test("an entrypoint that checks who owns its data refuses a forced root, and takes no forced user at all", async () => {
  const root = await accessPoint({ PosixUser: { Uid: 0, Gid: 0 }, RootDirectory: made("/forced", 0) });
  const refused = await withVolume(root, insistOnOwnership);
  assert.notEqual(refused.code, 0);
  assert.doesNotMatch(refused.lines.join(), /initialised/);
  const free = await accessPoint({ RootDirectory: made("/free", 0) });
  assert.deepEqual(await withVolume(free, insistOnOwnership), { code: 0, lines: ["initialised"] });
});

test("a directory that nobody makes stops the task with the mount's reason", async () => {
  const volume = await accessPoint({ RootDirectory: { Path: "/missing" } });
  const taskArn = await scene.run(
    await scene.register([scene.shell("main", "exit 0", mounted)], { volumes: [volume] }),
  );
  const task = await scene.stopped(taskArn);
  assert.equal(task.stopCode, "TaskFailedToStart");
  assert.match(
    task.stoppedReason ?? "",
    /^ResourceInitializationError: failed to invoke EFS utils commands to set up EFS volumes: .*mount\.nfs4: access denied by server/,
  );
});

test("a mount point can be read-only, and an empty volume is a task's own", async () => {
  const readOnly = { mountPoints: [{ sourceVolume: "data", containerPath: "/data", readOnly: true }] };
  const { lines } = await withVolume({ name: "data" }, "ls /data | wc -l; touch /data/x 2>&1", readOnly);
  assert.equal(lines[0]?.trim(), "0");
  assert.match(lines[1] ?? "", /Read-only file system/);
});

test("a file system that lets only roles in is mounted with the task's role, or the task does not start", async () => {
  const { aws } = scene;
  const { account, services } = aws;
  const { fileSystemId } = account.fileSystem;
  const role = { AWS: account.taskRoleArn };
  services.efs.setPolicy(fileSystemId, {
    Statement: [{ Effect: "Allow", Principal: role, Action: "elasticfilesystem:Client*", Resource: "*" }],
  });
  try {
    const volume = await accessPoint({
      PosixUser: { Uid: 0, Gid: 0 },
      RootDirectory: made("/closed", 0),
    });
    const run = async (iam: "ENABLED" | "DISABLED", taskRoleArn?: string) => {
      const efsVolumeConfiguration = {
        ...volume.efsVolumeConfiguration,
        fileSystemId,
        authorizationConfig: { ...volume.efsVolumeConfiguration?.authorizationConfig, iam },
      };
      const definition = await scene.register([scene.shell("main", "echo written > /data/file", mounted)], {
        volumes: [{ name: "data", efsVolumeConfiguration }],
        ...(taskRoleArn !== undefined && { taskRoleArn }),
      });
      return await scene.stopped(await scene.run(definition));
    };
    assert.deepEqual(exitCodes(await run("ENABLED", account.taskRoleArn)), { main: 0 });
    const anonymous = await run("DISABLED", account.taskRoleArn);
    assert.match(anonymous.stoppedReason ?? "", /EFS utils.*access denied by server/);
    const roleless = await run("ENABLED");
    assert.match(
      roleless.stoppedReason ?? "",
      /EFS utils.*AWS Access Key ID and Secret Access Key are not found/,
    );
  } finally {
    services.efs.setPolicy(fileSystemId, undefined);
  }
});
