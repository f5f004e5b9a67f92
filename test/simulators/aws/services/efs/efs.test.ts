import assert from "node:assert/strict";
import { mkdir, rm, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";

import {
  CreateAccessPointCommand,
  type CreateAccessPointCommandInput,
  DeleteAccessPointCommand,
  DescribeAccessPointsCommand,
  DescribeMountTargetsCommand,
  EFSClient,
} from "@aws-sdk/client-efs";

import { type Aws, startAws } from "../../aws.ts";
import type { NetworkInterface } from "../../cloud.ts";

function clientOf(aws: Aws): EFSClient {
  return new EFSClient({ ...aws.clientConfig, maxAttempts: 1 });
}

function volume(aws: Aws, name: string): CreateAccessPointCommandInput & { ClientToken?: string } {
  return {
    FileSystemId: aws.account.fileSystem.fileSystemId,
    PosixUser: { Uid: 0, Gid: 0 },
    RootDirectory: {
      Path: `/sockerless/volumes/${name}`,
      CreationInfo: { OwnerUid: 0, OwnerGid: 0, Permissions: "0755" },
    },
    Tags: [{ Key: "sockerless-volume", Value: name }],
  };
}

function taskIn(aws: Aws, groupIds: readonly string[]): NetworkInterface {
  const [subnetId = ""] = aws.account.subnetIds;
  return aws.services.network.createInterface({ subnetId, groupIds, description: "a task" });
}

test("an access point is described as it was made", async () => {
  await using aws = await startAws({ lightweight: true });
  const efs = clientOf(aws);
  const { AccessPointId = "", ClientToken } = await efs.send(
    new CreateAccessPointCommand(volume(aws, "cache")),
  );
  const { AccessPoints = [] } = await efs.send(new DescribeAccessPointsCommand({ AccessPointId }));
  const { FileSystemId, PosixUser, RootDirectory, Tags } = volume(aws, "cache");
  assert.deepEqual(AccessPoints, [
    {
      AccessPointId,
      AccessPointArn: `arn:aws:elasticfilesystem:us-east-1:${aws.accountId}:access-point/${AccessPointId}`,
      ClientToken,
      FileSystemId,
      LifeCycleState: "available",
      OwnerId: aws.accountId,
      PosixUser: { ...PosixUser, SecondaryGids: [] },
      RootDirectory,
      Tags,
    },
  ]);
  await efs.send(new DeleteAccessPointCommand({ AccessPointId }));
  await assert.rejects(efs.send(new DescribeAccessPointsCommand({ AccessPointId })), {
    name: "AccessPointNotFound",
  });
});

test("a token makes one access point, and its second use names it", async () => {
  await using aws = await startAws({ lightweight: true });
  const efs = clientOf(aws);
  const request = { ...volume(aws, "cache"), ClientToken: "one" };
  const { AccessPointId } = await efs.send(new CreateAccessPointCommand(request));
  await assert.rejects(efs.send(new CreateAccessPointCommand(request)), {
    name: "AccessPointAlreadyExists",
    AccessPointId,
  });
});

test("access points come in pages, and no more than the quota", async () => {
  await using aws = await startAws({ lightweight: true, quotas: { accessPointsPerFileSystem: 3 } });
  const efs = clientOf(aws);
  for (const name of ["a", "b", "c"]) {
    await efs.send(new CreateAccessPointCommand(volume(aws, name)));
  }
  await assert.rejects(efs.send(new CreateAccessPointCommand(volume(aws, "d"))), {
    name: "AccessPointLimitExceeded",
  });
  const { FileSystemId } = volume(aws, "");
  const first = await efs.send(new DescribeAccessPointsCommand({ FileSystemId, MaxResults: 2 }));
  const second = await efs.send(
    new DescribeAccessPointsCommand({ FileSystemId, MaxResults: 2, NextToken: first.NextToken }),
  );
  assert.deepEqual([first.AccessPoints?.length, second.AccessPoints?.length], [2, 1]);
  assert.equal(second.NextToken, undefined);
});

test("paths that EFS does not take are refused", async () => {
  await using aws = await startAws({ lightweight: true });
  const bad = ["relative", "/a/b/c/d/e", "/.hidden", "/a/.b", "/a;b", "/a\\b", `/${"x".repeat(100)}`];
  for (const path of bad) {
    const request = { ...volume(aws, "x"), RootDirectory: { Path: path } };
    await assert.rejects(
      clientOf(aws).send(new CreateAccessPointCommand(request)),
      { name: "BadRequest" },
      path,
    );
  }
});

test("the file system has a mount target in each subnet", async () => {
  await using aws = await startAws({ lightweight: true });
  const efs = clientOf(aws);
  const { FileSystemId } = volume(aws, "");
  const { MountTargets = [] } = await efs.send(new DescribeMountTargetsCommand({ FileSystemId }));
  assert.deepEqual(
    MountTargets.map(({ SubnetId }) => SubnetId),
    aws.account.subnetIds,
  );
  await assert.rejects(efs.send(new DescribeMountTargetsCommand({ FileSystemId: "fs-0123456789abcdef0" })), {
    name: "FileSystemNotFound",
  });
});

test("the first mount makes the directory with its owner, and files outlive the access point", async () => {
  await using aws = await startAws({ lightweight: true });
  const efs = clientOf(aws);
  const networkInterface = taskIn(aws, [aws.account.securityGroupId]);
  const mount = (accessPointId: string) =>
    aws.services.efs.mount({
      fileSystemId: aws.account.fileSystem.fileSystemId,
      accessPointId,
      transitEncryption: true,
      iamEnabled: false,
      networkInterface,
    });
  const request = volume(aws, "data");
  const owned = {
    ...request,
    RootDirectory: {
      Path: request.RootDirectory?.Path,
      CreationInfo: { OwnerUid: 1000, OwnerGid: 1001, Permissions: "0750" },
    },
  };
  const { AccessPointId: first = "" } = await efs.send(new CreateAccessPointCommand(owned));
  const { hostDirectory, posixUser, rootSquash, readOnly } = mount(first);
  assert.deepEqual(
    { posixUser, rootSquash, readOnly },
    { posixUser: { uid: 0, gid: 0, secondaryGids: [] }, rootSquash: false, readOnly: false },
  );
  const { mode, uid, gid } = await stat(hostDirectory);
  assert.deepEqual([(mode & 0o777).toString(8), uid, gid], ["750", 1000, 1001]);
  await writeFile(join(hostDirectory, "file"), "kept");
  await efs.send(new DeleteAccessPointCommand({ AccessPointId: first }));
  assert.throws(() => mount(first), /access denied by server/);
  const { AccessPointId: second = "" } = await efs.send(new CreateAccessPointCommand(owned));
  assert.equal((await stat(join(mount(second).hostDirectory, "file"))).size, 4);
});

test("a directory that nobody is to make must be there", async () => {
  await using aws = await startAws({ lightweight: true });
  const efs = clientOf(aws);
  const networkInterface = taskIn(aws, [aws.account.securityGroupId]);
  const request = { ...volume(aws, "data"), RootDirectory: { Path: "/sockerless/volumes/data/part" } };
  const { AccessPointId: accessPointId = "" } = await efs.send(new CreateAccessPointCommand(request));
  const { fileSystemId, directory } = aws.account.fileSystem;
  const mount = () =>
    aws.services.efs.mount({
      fileSystemId,
      accessPointId,
      transitEncryption: true,
      iamEnabled: false,
      networkInterface,
    });
  assert.throws(mount, /access denied by server/);
  const part = join(directory, "sockerless/volumes/data/part");
  await mkdir(join(part, ".."), { recursive: true });
  await symlink("/", part);
  assert.throws(mount, /access denied by server/, "a link that leads out of the file system");
  await rm(part);
  await mkdir(part);
  assert.equal(mount().hostDirectory, join(directory, "sockerless/volumes/data/part/"));
});

test("a mount needs a way to the mount target, and encryption", async () => {
  await using aws = await startAws({ lightweight: true });
  const { network, efs } = aws.services;
  const stranger = network.groups.create("stranger", "a network", {}, aws.account.vpcId).groupId;
  const common = {
    fileSystemId: aws.account.fileSystem.fileSystemId,
    transitEncryption: true,
    iamEnabled: false,
  };
  const blocked = taskIn(aws, [stranger]);
  assert.throws(() => efs.mount({ ...common, networkInterface: blocked }), /Connection timed out/);
  const nfs = { protocol: "tcp", fromPort: 2049, toPort: 2049, peer: { groupId: stranger } };
  network.groups.authorize(
    aws.account.efsSecurityGroupId,
    [{ groupId: aws.account.efsSecurityGroupId, direction: "ingress", ...nfs }],
    {},
  );
  assert.equal(
    efs.mount({ ...common, networkInterface: blocked }).hostDirectory,
    join(aws.account.fileSystem.directory, "/"),
  );
  assert.throws(
    () => efs.mount({ ...common, rootDirectory: "/missing", networkInterface: blocked }),
    /No such file or directory/,
  );
  assert.throws(
    () =>
      efs.mount({ ...common, accessPointId: "fsap-1", transitEncryption: false, networkInterface: blocked }),
    /access denied|encryption in transit/,
  );
  const [target] = efs.mountTargets();
  efs.removeMountTarget(target?.mountTargetId ?? "");
  assert.throws(() => efs.mount({ ...common, networkInterface: blocked }), /Failed to resolve "fs-/);
});

test("a file system policy takes root's rights from who has no leave", async () => {
  await using aws = await startAws({ lightweight: true });
  aws.services.efs.setPolicy(aws.account.fileSystem.fileSystemId, {
    Statement: [
      { Effect: "Allow", Principal: { AWS: "*" }, Action: "elasticfilesystem:ClientMount", Resource: "*" },
    ],
  });
  const taskRoleArn = aws.iam.addRole("root", {
    trusted: [],
    policies: [
      {
        Statement: [
          {
            Effect: "Allow",
            Action: ["elasticfilesystem:ClientWrite", "elasticfilesystem:ClientRootAccess"],
            Resource: "*",
          },
        ],
      },
    ],
  });
  const rights = (iamEnabled: boolean) => {
    const { rootSquash, readOnly } = aws.services.efs.mount({
      fileSystemId: aws.account.fileSystem.fileSystemId,
      transitEncryption: true,
      iamEnabled,
      taskRoleArn,
      networkInterface: taskIn(aws, [aws.account.securityGroupId]),
    });
    return { rootSquash, readOnly };
  };
  assert.deepEqual(rights(false), { rootSquash: true, readOnly: true });
  assert.deepEqual(rights(true), { rootSquash: false, readOnly: false });
});

test("a mount with IAM needs a role, and obeys it where no policy of the file system says a word", async () => {
  await using aws = await startAws({ lightweight: true });
  const { fileSystemId } = aws.account.fileSystem;
  const mount = (iamEnabled: boolean, taskRoleArn?: string) =>
    aws.services.efs.mount({
      fileSystemId,
      transitEncryption: true,
      iamEnabled,
      ...(taskRoleArn !== undefined && { taskRoleArn }),
      networkInterface: taskIn(aws, [aws.account.securityGroupId]),
    });
  assert.throws(() => mount(true), /AWS Access Key ID and Secret Access Key are not found/);
  const roleThatMay = (name: string, Effect: "Allow" | "Deny") =>
    aws.iam.addRole(name, {
      trusted: [],
      policies: [{ Statement: [{ Effect, Action: "elasticfilesystem:*", Resource: "*" }] }],
    });
  const barred = roleThatMay("barred", "Deny");
  assert.equal(mount(true, aws.account.taskRoleArn).readOnly, false);
  assert.throws(() => mount(true, barred), /access denied by server/);
  assert.equal(mount(false, barred).readOnly, false, "who does not say who he is");

  // A policy that names nobody leaves only who has the right himself.
  aws.services.efs.setPolicy(fileSystemId, {
    Statement: [
      {
        Effect: "Deny",
        Principal: "*",
        Action: "elasticfilesystem:Client*",
        Resource: "*",
        Condition: { Bool: { "aws:SecureTransport": "false" } },
      },
    ],
  });
  assert.throws(() => mount(false), /access denied by server/);
  assert.throws(() => mount(true, aws.account.taskRoleArn), /access denied by server/);
  assert.equal(mount(true, roleThatMay("allowed", "Allow")).rootSquash, false);
});

test("a file system policy sees the access point, and whether the connection is encrypted", async () => {
  await using aws = await startAws({ lightweight: true });
  const { fileSystemId } = aws.account.fileSystem;
  const efs = clientOf(aws);
  const [{ AccessPointId: one = "", AccessPointArn }, { AccessPointId: other = "" }] = await Promise.all([
    efs.send(new CreateAccessPointCommand(volume(aws, "one"))),
    efs.send(new CreateAccessPointCommand(volume(aws, "other"))),
  ]);
  const mount = (accessPointId?: string, transitEncryption = true) =>
    aws.services.efs.mount({
      fileSystemId,
      ...(accessPointId !== undefined && { accessPointId }),
      transitEncryption,
      iamEnabled: false,
      networkInterface: taskIn(aws, [aws.account.securityGroupId]),
    }).hostDirectory;
  const allowOn = (Condition: Record<string, Record<string, string>>) =>
    aws.services.efs.setPolicy(fileSystemId, {
      Statement: [
        {
          Effect: "Allow",
          Principal: "*",
          Action: "elasticfilesystem:ClientMount",
          Resource: "*",
          Condition,
        },
      ],
    });
  allowOn({ ArnEquals: { "elasticfilesystem:AccessPointArn": AccessPointArn ?? "" } });
  mount(one);
  assert.throws(() => mount(other), /access denied by server/);
  assert.throws(() => mount(), /access denied by server/);
  allowOn({ Bool: { "aws:SecureTransport": "true" } });
  mount();
  assert.throws(() => mount(undefined, false), /access denied by server/);
});

test("an access point cannot be mounted while it is made", async () => {
  await using aws = await startAws({ lightweight: true, delays: { accessPoint: 60_000 } });
  const efs = clientOf(aws);
  const made = await efs.send(new CreateAccessPointCommand(volume(aws, "slow")));
  assert.equal(made.LifeCycleState, "creating");
  aws.clock.advance(60_000);
  const { AccessPoints } = await efs.send(
    new DescribeAccessPointsCommand({ AccessPointId: made.AccessPointId }),
  );
  assert.equal(AccessPoints?.[0]?.LifeCycleState, "available");
});
