/** Tests of mounts by different callers, with the documented policies on the file system and the roles. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";

import { checkout } from "../../../support/daemon.ts";
import { type Aws, startAws } from "../aws.ts";
import type { EfsMount } from "../cloud.ts";
import type { PolicyDocument, Role } from "./access.ts";
import { evaluate, evaluateOnResource } from "./policy.ts";

const stateUser = { uid: 10_001, gid: 10_001, secondaryGids: [] };

/** Facts that a client of the file system says of itself. */
interface Client {
  readonly accessPointId?: string;
  /** The client's role; absent: it is nobody. */
  readonly roleArn?: string;
  readonly encrypted?: boolean;
}

async function filledIn(aws: Aws, name: string): Promise<PolicyDocument> {
  return aws.fillPolicy(await readFile(join(checkout, "deploy/iam", name), "utf8"), {
    "administrator-role": "administrator",
    "backend-role": "service-backend",
    "state-access-point": "fsap-57",
  });
}

/** An account with the policies of `deploy/iam`, a volume and the state of a service. */
class Closed implements AsyncDisposable {
  readonly aws: Aws;
  readonly roles: { readonly task: string; readonly backend: string; readonly administrator: string };

  private constructor(aws: Aws, roles: Closed["roles"]) {
    this.aws = aws;
    this.roles = roles;
  }

  static async start(): Promise<Closed> {
    const aws = await startAws({ lightweight: true });
    const { fileSystemId } = aws.account.fileSystem;
    const { efs } = aws.services;
    const made = { fileSystemId, availableAt: 0, tags: {}, clientToken: "" };
    const creationInfo = { ownerUid: 0, ownerGid: 0, permissions: "0755" };
    efs.add({ ...made, accessPointId: "fsap-a0", path: "/volumes/a", creationInfo, posixUser: undefined });
    efs.add({ ...made, accessPointId: "fsap-57", path: "/state", creationInfo, posixUser: stateUser });
    const document = (name: string) => filledIn(aws, name);
    efs.setPolicy(fileSystemId, await document("file-system-policy.json"));
    const role = (name: string, policies: Parameters<Aws["iam"]["addRole"]>[1]["policies"]) =>
      aws.iam.addRole(name, { trusted: ["ecs-tasks.amazonaws.com"], policies });
    const everything = { Statement: [{ Effect: "Allow", Action: "*", Resource: "*" } as const] };
    return new Closed(aws, {
      task: role("sockerless-task", [await document("task-policy.json")]),
      backend: role("service-backend", [everything]),
      administrator: role("administrator", [everything]),
    });
  }

  mount({ accessPointId, roleArn, encrypted = true }: Client): EfsMount {
    const { account, services } = this.aws;
    const [subnetId = ""] = account.subnetIds;
    return services.efs.mount({
      fileSystemId: account.fileSystem.fileSystemId,
      ...(accessPointId !== undefined && { accessPointId }),
      transitEncryption: encrypted,
      iamEnabled: roleArn !== undefined,
      ...(roleArn !== undefined && { taskRoleArn: roleArn }),
      networkInterface: services.network.createInterface({
        subnetId,
        groupIds: [account.securityGroupId],
        description: "a task",
      }),
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.aws.stop();
  }
}

const denied = /access denied by server/;

test("a container mounts volumes with its role, as root, to write", async () => {
  await using closed = await Closed.start();
  const { rootSquash, readOnly } = closed.mount({ accessPointId: "fsap-a0", roleArn: closed.roles.task });
  assert.deepEqual({ rootSquash, readOnly }, { rootSquash: false, readOnly: false });
});

test("a container does not mount the whole file system, nor the state of a service, whoever it says it is", async () => {
  await using closed = await Closed.start();
  const { task } = closed.roles;
  for (const client of [
    {},
    { roleArn: task },
    { accessPointId: "fsap-57" },
    { accessPointId: "fsap-57", roleArn: task },
    { accessPointId: "fsap-a0" },
    { encrypted: false },
  ]) {
    assert.throws(() => closed.mount(client), denied, JSON.stringify(client));
  }
});

test("the file system's policy itself refuses what a role's own would allow", async () => {
  await using closed = await Closed.start();
  const { backend, administrator } = closed.roles;
  assert.throws(() => closed.mount({ roleArn: backend }), denied, "without an access point");
  assert.throws(() => closed.mount({ accessPointId: "fsap-57", roleArn: administrator }), denied);
});

test("the backend's role mounts its state, and an administrator's the whole", async () => {
  await using closed = await Closed.start();
  const { backend, administrator } = closed.roles;
  assert.deepEqual(closed.mount({ accessPointId: "fsap-57", roleArn: backend }).posixUser, stateUser);
  assert.equal(closed.mount({ roleArn: administrator }).readOnly, false);
});

test("each condition refuses by itself, also where no other would", async () => {
  await using aws = await startAws({ lightweight: true });
  const resource = aws.services.efs.fileSystemArn(aws.account.fileSystem.fileSystemId);
  const volume = {
    "elasticfilesystem:AccessPointArn": aws.services.efs.accessPointArn("fsap-a0"),
    "elasticfilesystem:AccessedViaMountTarget": "true",
    "aws:SecureTransport": "true",
  };
  const request = (changes: Readonly<Record<string, string>>) => ({
    action: "elasticfilesystem:ClientMount",
    resource,
    context: { ...volume, ...changes },
  });
  const { "elasticfilesystem:AccessPointArn": _none, ...whole } = volume;
  const unencrypted = request({ "aws:SecureTransport": "false" });
  const aside = request({ "elasticfilesystem:AccessedViaMountTarget": "false" });

  const all = { Statement: [{ Effect: "Allow", Action: "*", Resource: "*" } as const] };
  const who: Role = { arn: "arn:aws:iam::123456789012:role/administrator", trusted: [], policies: [all] };
  const policy = await filledIn(aws, "file-system-policy.json");
  const verdict = (each: ReturnType<typeof request>) => evaluateOnResource(policy, who, each);
  assert.equal(verdict(request({})), "allowed");
  assert.deepEqual([verdict(unencrypted), verdict(aside)], ["explicitly denied", "explicitly denied"]);

  const task = [await filledIn(aws, "task-policy.json")];
  assert.equal(evaluate(task, request({})), "allowed");
  assert.equal(evaluate(task, aside), "not allowed");
  assert.equal(evaluate(task, { ...request({}), context: whole }), "not allowed");
});

test("a container registers with names of containers, and with no service of others", async () => {
  await using aws = await startAws({ lightweight: true });
  const { cloudMap } = aws.services;
  const task = [await filledIn(aws, "task-policy.json")];
  for (const action of ["servicediscovery:RegisterInstance", "servicediscovery:DeregisterInstance"]) {
    const on = (context: Readonly<Record<string, string>>) =>
      evaluate(task, { action, resource: cloudMap.serviceArn("srv-1"), context });
    assert.equal(on({ "aws:ResourceTag/sockerless-instance": "sockerless/0123" }), "allowed");
    assert.equal(on({ "aws:ResourceTag/Name": "docker" }), "not allowed");
  }
});
