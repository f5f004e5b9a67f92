import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { EC2Client, IpPermission } from "@aws-sdk/client-ec2";

import { ManualClock } from "../../common/manual-clock.ts";
import { ContainerRecordSchema, NetworkRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { NetworkSchema } from "../../gen/sockerless/backend/v1/network_pb.ts";
import type { AwsService } from "./aws/clients.ts";
import { type EcsNetworksOptions, ecsNetworks } from "./networks.ts";
import { noDiscovery } from "../cloud/contract/service-discovery.ts";
import { capturedLogger } from "../cloud/testing/captured-logger.ts";
import { answered, fakeClient, type Input, refusal, unanswered } from "./testing/fake-client.ts";
import { passing } from "../cloud/testing/passing.ts";
import { nfsFrom } from "./security-groups/network-groups.ts";
import { permissionOf, type Rule } from "./security-groups/rules.ts";
import { SecurityGroups } from "./security-groups/security-groups.ts";

interface Group {
  readonly GroupId: string;
  readonly GroupName: string;
  readonly Tags: { Key: string; Value: string }[];
  readonly IpPermissions: IpPermission[];
  readonly IpPermissionsEgress: IpPermission[];
}

/** The part of EC2's security groups that networks use. */
class FakeGroups {
  readonly groups = new Map<string, Group>();
  /** Number of lookups by name that do not show yet what has been made. */
  unshown = 0;
  /** Fates of the next calls of CreateSecurityGroup, one by one. */
  readonly creations: ("lost" | "cut" | "refused")[] = [];
  /** Groups that an interface holds. */
  readonly held = new Set<string>();
  mostRules = 60;
  made = 0;
  /** Errors of the next calls that add rules to the file system's group, one by one; then rules are made. */
  readonly mountFaults: Error[] = [];
  readonly fake = fakeClient<AwsService<EC2Client>>({
    DescribeSubnets: () => ({ Subnets: [{ VpcId: "vpc-1" }] }),
    CreateSecurityGroup: (input) => {
      const name = String(input["GroupName"]);
      const fate = this.creations.shift();
      if (fate === "refused") {
        throw refusal("ec2", "CreateSecurityGroup", "UnauthorizedOperation");
      }
      if ([...this.groups.values()].some(({ GroupName }) => GroupName === name)) {
        throw refusal("ec2", "CreateSecurityGroup", "InvalidGroup.Duplicate");
      }
      const specification = input["TagSpecifications"] as [{ Tags: Group["Tags"] }];
      const made = this.add(`sg-${++this.made}`, name, specification[0].Tags);
      if (fate === "lost") {
        throw refusal("ec2", "CreateSecurityGroup", "ECONNRESET");
      }
      if (fate === "cut") {
        throw refusal("ec2", "CreateSecurityGroup", "SyntaxError", "unexpected end", answered);
      }
      return made;
    },
    DescribeSecurityGroups: (input) => ({ SecurityGroups: this.#find(input) }),
    AuthorizeSecurityGroupIngress: (input) => {
      const fault = input["GroupId"] === "sg-efs" ? this.mountFaults.shift() : undefined;
      if (fault !== undefined) {
        throw fault;
      }
      return this.#authorize(input, "IpPermissions");
    },
    AuthorizeSecurityGroupEgress: (input) => this.#authorize(input, "IpPermissionsEgress"),
    RevokeSecurityGroupIngress: (input) => this.#revoke(input, "IpPermissions"),
    RevokeSecurityGroupEgress: (input) => this.#revoke(input, "IpPermissionsEgress"),
    DeleteSecurityGroup: (input) => {
      const id = String(input["GroupId"]);
      const isNamed = [...this.groups.values()].some(
        ({ GroupId, IpPermissions }) =>
          GroupId !== id &&
          IpPermissions.some(({ UserIdGroupPairs }) => UserIdGroupPairs?.some((pair) => pair.GroupId === id)),
      );
      if (this.held.has(id) || isNamed) {
        throw refusal("ec2", "DeleteSecurityGroup", "DependencyViolation");
      }
      if (!this.groups.delete(id)) {
        throw refusal("ec2", "DeleteSecurityGroup", "InvalidGroup.NotFound");
      }
      return {};
    },
  });

  add(id: string, name: string, tags: Group["Tags"] = []): Group {
    const group: Group = {
      GroupId: id,
      GroupName: name,
      Tags: tags,
      IpPermissions: [],
      IpPermissionsEgress: [{ IpProtocol: "-1", IpRanges: [{ CidrIp: "0.0.0.0/0" }] }],
    };
    this.groups.set(id, group);
    return structuredClone(group);
  }

  /** Adds a rule of a former version, with which a network's group mounts volumes. */
  admit(id: string): void {
    this.groups.get("sg-efs")?.IpPermissions.push(permissionOf(nfsFrom(id)));
  }

  /** Rules as text: `tcp 9111 10.0.0.0/8`. */
  rules(id: string, direction: "IpPermissions" | "IpPermissionsEgress" = "IpPermissions"): string[] {
    return (this.groups.get(id)?.[direction] ?? [])
      .flatMap(({ IpProtocol, FromPort, IpRanges, Ipv6Ranges, UserIdGroupPairs }) =>
        [
          ...(IpRanges ?? []).map(({ CidrIp }) => CidrIp),
          ...(Ipv6Ranges ?? []).map(({ CidrIpv6 }) => CidrIpv6),
          ...(UserIdGroupPairs ?? []).map(({ GroupId }) => GroupId),
        ].map((peer) => (IpProtocol === "-1" ? `all ${peer}` : `${IpProtocol} ${FromPort} ${peer}`)),
      )
      .sort();
  }

  #find(input: Input): Group[] {
    const ids = input["GroupIds"] as string[] | undefined;
    const filters = (input["Filters"] ?? []) as { Name: string; Values: string[] }[];
    if (filters.some(({ Name }) => Name === "group-name") && this.unshown > 0) {
      this.unshown -= 1;
      return [];
    }
    const found = [...this.groups.values()].filter(
      (group) =>
        (ids === undefined || ids.includes(group.GroupId)) &&
        filters.every(
          ({ Name, Values: [value] }) =>
            Name === "vpc-id" ||
            (Name === "group-name" && group.GroupName === value) ||
            group.Tags.some(({ Key, Value }) => Name === `tag:${Key}` && Value === value),
        ),
    );
    if (ids?.some((each) => !this.groups.has(each))) {
      throw refusal("ec2", "DescribeSecurityGroups", "InvalidGroup.NotFound");
    }
    return structuredClone(found);
  }

  #authorize(input: Input, direction: "IpPermissions" | "IpPermissionsEgress"): unknown {
    const group = this.groups.get(String(input["GroupId"]));
    if (group === undefined) {
      throw refusal("ec2", "AuthorizeSecurityGroupIngress", "InvalidGroup.NotFound");
    }
    const added = input["IpPermissions"] as IpPermission[];
    const text = (each: IpPermission): string => JSON.stringify({ ...each, Description: undefined });
    if (added.some((each) => group[direction].some((known) => text(known) === text(each)))) {
      throw refusal("ec2", "AuthorizeSecurityGroupIngress", "InvalidPermission.Duplicate");
    }
    if (group[direction].length + added.length > this.mostRules) {
      throw refusal("ec2", "AuthorizeSecurityGroupIngress", "RulesPerSecurityGroupLimitExceeded");
    }
    group[direction].push(...structuredClone(added));
    return {};
  }

  #revoke(input: Input, direction: "IpPermissions" | "IpPermissionsEgress"): unknown {
    const group = this.groups.get(String(input["GroupId"]));
    const peerOf = ({ IpProtocol, FromPort, IpRanges, UserIdGroupPairs }: IpPermission): string =>
      [IpProtocol, FromPort, IpRanges?.[0]?.CidrIp, UserIdGroupPairs?.[0]?.GroupId].join();
    if (direction === "IpPermissionsEgress" && group?.[direction][0]?.Ipv6Ranges !== undefined) {
      return {}; // Rules that are told together are not taken apart here.
    }
    const removed = new Set((input["IpPermissions"] as IpPermission[]).map(peerOf));
    const kept = group?.[direction].filter((known) => !removed.has(peerOf(known))) ?? [];
    if (group === undefined || kept.length + removed.size !== group[direction].length) {
      throw refusal("ec2", "RevokeSecurityGroupIngress", "InvalidPermission.NotFound");
    }
    group[direction].splice(0, kept.length + removed.size, ...kept);
    return {};
  }
}

const id = (digit: string): string => digit.repeat(64);

function network(
  name: string,
  digit: string,
  more: MessageInitShape<typeof NetworkSchema> = {},
): ReturnType<typeof create<typeof NetworkRecordSchema>> {
  return create(NetworkRecordSchema, {
    network: { id: id(digit), name, driver: "bridge", scope: "local", ...more } as MessageInitShape<
      typeof NetworkSchema
    >,
  });
}

describe("networks on ECS", () => {
  let ec2: FakeGroups;
  let clock: ManualClock;
  let log: ReturnType<typeof capturedLogger>;
  beforeEach(() => {
    ec2 = new FakeGroups();
    ec2.add("sg-default", "default");
    ec2.add("sg-efs", "efs");
    clock = new ManualClock();
    log = capturedLogger();
  });

  const networks = (more: Partial<EcsNetworksOptions> = {}) =>
    ecsNetworks({
      ec2: ec2.fake.client,
      subnets: ["subnet-1"],
      securityGroups: ["sg-default"],
      agentIngress: ["10.0.0.0/8", "sg-frontend", "fd00::/8"],
      callbackPort: undefined,
      efsSecurityGroupId: "sg-efs",
      isolation: "security-group",
      instance: "one",
      discovery: noDiscovery,
      clock,
      logger: log.logger,
      ...more,
    });
  const plan = (...records: ReturnType<typeof network>[]) => ({
    kind: "networks" as const,
    networks: records.map((record) => ({ name: record.network?.name ?? "", record })),
  });

  it("are security groups whose members reach one another and agents", async () => {
    const fabric = networks();
    const reference = await fabric.ensure(network("web", "a"));
    const group = ec2.groups.get(reference);
    assert.equal(group?.GroupName, `sockerless-net-${"a".repeat(12)}`);
    assert.ok(group?.Tags.some(({ Key, Value }) => Key === "sockerless-network" && Value === id("a")));
    assert.deepEqual(ec2.rules(reference), [
      `all ${reference}`,
      "tcp 9111 10.0.0.0/8",
      "tcp 9111 fd00::/8",
      "tcp 9111 sg-frontend",
    ]);
    assert.deepEqual(ec2.rules("sg-efs"), []);
    assert.deepEqual(ec2.rules(reference, "IpPermissionsEgress"), ["all 0.0.0.0/0"]);
    assert.equal(ec2.fake.made("AuthorizeSecurityGroupIngress").length, 1);
  });

  it("let agents be reached as the configured groups do, where nothing else is said", async () => {
    ec2.groups
      .get("sg-default")
      ?.IpPermissions.push(
        { IpProtocol: "tcp", FromPort: 9000, ToPort: 9200, IpRanges: [{ CidrIp: "10.1.0.0/16" }] },
        { IpProtocol: "tcp", FromPort: 22, ToPort: 22, IpRanges: [{ CidrIp: "10.2.0.0/16" }] },
        { IpProtocol: "-1", UserIdGroupPairs: [{ GroupId: "sg-default" }] },
      );
    const reference = await networks({ agentIngress: [] }).ensure(network("web", "a"));
    assert.deepEqual(ec2.rules(reference), [
      `all ${reference}`,
      "tcp 9111 10.1.0.0/16",
      "tcp 9111 sg-default",
    ]);
    ec2.groups.get("sg-default")?.IpPermissions.splice(0);
    await networks({ agentIngress: [] }).ensure(network("app", "b"));
    assert.ok(log.warnings().some((message) => message.includes("nobody may reach port 9111")));
  });

  it("that are internal lead to their own members and to what Fargate needs", async () => {
    const reference = await networks().ensure(network("inner", "a", { internal: true }));
    assert.deepEqual(ec2.rules(reference, "IpPermissionsEgress"), [
      `all ${reference}`,
      "tcp 2049 sg-efs",
      "tcp 443 0.0.0.0/0",
      "tcp 443 ::/0",
    ]);
  });

  it("that are internal lead to the backend where agents call it", async () => {
    const reference = await networks({ callbackPort: 8443 }).ensure(
      network("inner", "a", { internal: true }),
    );
    assert.deepEqual(ec2.rules(reference, "IpPermissionsEgress"), [
      `all ${reference}`,
      "tcp 2049 sg-efs",
      "tcp 443 0.0.0.0/0",
      "tcp 443 ::/0",
      "tcp 8443 0.0.0.0/0",
      "tcp 8443 ::/0",
    ]);
  });

  it("whose containers are not to reach one another let in who talks to agents alone", async () => {
    const options = { "com.docker.network.bridge.enable_icc": "false" };
    const reference = await networks().ensure(network("apart", "a", { options }));
    assert.deepEqual(ec2.rules(reference), [
      "tcp 9111 10.0.0.0/8",
      "tcp 9111 fd00::/8",
      `tcp 9111 ${reference}`,
      "tcp 9111 sg-frontend",
    ]);
  });

  it("that are internal lose what a crash left open, and nothing else", async () => {
    const record = network("inner", "a", { internal: true });
    const reference = await networks().ensure(record);
    const group = ec2.groups.get(reference);
    // EC2 tells the rules of one protocol together.
    group?.IpPermissionsEgress.splice(0, group.IpPermissionsEgress.length, {
      IpProtocol: "-1",
      IpRanges: [{ CidrIp: "0.0.0.0/0" }],
      Ipv6Ranges: [{ CidrIpv6: "::/0" }],
      UserIdGroupPairs: [{ GroupId: reference }],
    });
    await networks().ensure({ ...record, driverReference: reference });
    assert.deepEqual(ec2.fake.made("RevokeSecurityGroupEgress").at(-1)?.["IpPermissions"], [
      { IpProtocol: "-1", IpRanges: [{ CidrIp: "0.0.0.0/0" }] },
      { IpProtocol: "-1", Ipv6Ranges: [{ CidrIpv6: "::/0" }] },
    ]);
  });

  it("lose all the rules that they are to lose, although somebody has taken one of them away", async () => {
    const groups = new SecurityGroups({ ec2: ec2.fake.client, subnet: "subnet-1", clock });
    const rule = (port: number): Rule => ({ tcpPort: port, peer: { cidr: "10.0.0.0/8" } });
    const group = ec2.add("sg-1", "web");
    await groups.allow(group, [rule(80), rule(82)]);
    const rules = [80, 81, 82].map((port) => permissionOf(rule(port)));
    await groups.disallow("sg-1", rules);
    assert.deepEqual(ec2.rules("sg-1"), []);
    await groups.disallow("sg-1", rules);
  });

  it("are completed when a crash left them half made, and made anew when somebody removed them", async () => {
    const fabric = networks();
    const reference = await fabric.ensure(network("web", "a"));
    ec2.groups.get(reference)?.IpPermissions.splice(1);
    const record = { ...network("web", "a"), driverReference: reference };
    assert.equal(await networks().ensure(record), reference);
    assert.equal(ec2.rules(reference).length, 4);
    ec2.groups.delete(reference);
    const again = networks();
    const made = await again.ensure(record);
    assert.notEqual(made, "");
    assert.deepEqual(await again.groupsOf(plan(record), false), [made]);
  });

  it("are rebuilt from their tags", async () => {
    const labels = { "com.docker.compose.project": "shop" };
    const pools = [{ subnet: "172.18.5.0/24", gateway: "172.18.5.1" }];
    const reference = await networks().ensure(network("web", "a", { labels, pools }));
    await networks({ instance: "two" }).ensure(network("theirs", "b"));
    const [record, ...others] = (await networks().found?.()) ?? [];
    assert.deepEqual(others, []);
    assert.equal(record?.driverReference, reference);
    assert.deepEqual(record?.network?.labels, labels);
    assert.equal(record?.network?.pools[0]?.gateway, "172.18.5.1");
  });

  it("are removed with the rule that a former version gave them in the file system's group", async () => {
    const fabric = networks();
    const record = { ...network("web", "a"), driverReference: await fabric.ensure(network("web", "a")) };
    ec2.admit(record.driverReference);
    await fabric.remove(record);
    assert.deepEqual([...ec2.groups.keys()], ["sg-default", "sg-efs"]);
    assert.deepEqual(ec2.rules("sg-efs"), []);
    await fabric.remove(record);
    await passing(clock, networks().remove({ ...record, driverReference: "" })); // It might just have been made.
  });

  it("are made of the group whose creation was answered to nobody, and which EC2 shows late", async () => {
    ec2.add("sg-made", `sockerless-net-${"a".repeat(12)}`);
    ec2.unshown = 4;
    assert.equal(await passing(clock, networks().ensure(network("web", "a"))), "sg-made");
    assert.equal(ec2.rules("sg-made").length, 4);
  });

  it("that may have been made although nobody was told are looked for when they are taken back", async () => {
    const fabric = networks();
    for (const [fate, code] of [
      ["lost", /ECONNRESET/],
      ["cut", /SyntaxError/],
    ] as const) {
      ec2.creations.push(fate);
      await assert.rejects(fabric.ensure(network("web", "a")), code);
      assert.equal(ec2.groups.size, 3);
      ec2.unshown = 4;
      await passing(clock, fabric.remove(network("web", "a")));
      assert.deepEqual([...ec2.groups.keys()], ["sg-default", "sg-efs"]);
    }

    ec2.creations.push("refused");
    await assert.rejects(fabric.ensure(network("web", "a")), /UnauthorizedOperation/);
    await fabric.remove(network("web", "a")); // At once: there is nothing to look for.
  });

  it("are removed behind the answer while an interface holds their group", async () => {
    const fabric = networks();
    const reference = await fabric.ensure(network("web", "a"));
    ec2.admit(reference);
    ec2.held.add(reference);
    await fabric.remove({ ...network("web", "a"), driverReference: reference });
    assert.deepEqual(ec2.rules(reference), [], "nobody reaches anybody in it any more");
    await clock.advance(10_000);
    assert.ok(ec2.groups.has(reference));
    ec2.held.delete(reference);
    await clock.advance(60_000);
    assert.equal(ec2.groups.has(reference), false);
    const revoked = ec2.fake.made("RevokeSecurityGroupIngress");
    assert.equal(
      revoked.filter(({ GroupId }) => GroupId === "sg-efs").length,
      1,
      "its rule is gone for good",
    );
    await fabric.close();
  });

  it("that a process did not get to remove are removed by the next, and do not come back", async () => {
    const first = networks();
    const reference = await first.ensure(network("web", "a"));
    ec2.held.add(reference);
    await first.remove({ ...network("web", "a"), driverReference: reference });
    await first.close();
    const second = networks();
    assert.deepEqual(await second.found?.(), []);
    ec2.held.delete(reference);
    await clock.advance(5_000);
    assert.equal(ec2.groups.has(reference), false);
    await second.close();
  });

  it("are not found by groups with copied tags, which stay", async () => {
    const reference = await networks().ensure(network("web", "a"));
    const tags = ec2.groups.get(reference)?.Tags ?? [];
    ec2.add("sg-copy", "web-by-hand", tags);
    ec2.groups.get("sg-copy")?.IpPermissions.push({ IpProtocol: "-1", IpRanges: [{ CidrIp: "0.0.0.0/0" }] });
    ec2.add("sg-without-rules", "web-left", tags);
    const fabric = networks();
    const found = (await fabric.found?.()) ?? [];
    assert.deepEqual(
      found.map(({ driverReference }) => driverReference),
      [reference],
    );
    assert.deepEqual(await fabric.groupsOf(plan(...found), false), [reference]);
    await clock.advance(60_000);
    await fabric.remove({ ...network("web", "a"), driverReference: reference });
    assert.deepEqual([...ec2.groups.keys()], ["sg-default", "sg-efs", "sg-copy", "sg-without-rules"]);
    await fabric.close();
  });

  it("that are half made when a process ends are not removed by the next", async () => {
    const group = ec2.add("sg-half", `sockerless-net-${"a".repeat(12)}`, [
      { Key: "sockerless-network", Value: id("a") },
      { Key: "sockerless-instance", Value: "one" },
    ]);
    const fabric = networks();
    await fabric.found?.();
    assert.equal(await fabric.ensure(network("web", "a")), group.GroupId);
    await clock.advance(60_000);
    assert.equal(ec2.rules("sg-half").length, 4);
    await fabric.close();
  });

  it("give tasks their groups alone, the configured ones on the default network", async () => {
    const fabric = networks();
    const web = { ...network("web", "a"), driverReference: await fabric.ensure(network("web", "a")) };
    const bridge = network("bridge", "0");
    assert.deepEqual(await fabric.groupsOf(plan(web), false), [web.driverReference]);
    assert.deepEqual(await fabric.groupsOf(plan(bridge), true), ["sg-default"]);
    assert.deepEqual(await fabric.groupsOf(plan(bridge, web), true), [web.driverReference, "sg-default"]);
    assert.deepEqual(await fabric.groupsOf(plan(bridge, web), false), [web.driverReference, "sg-default"]);
    assert.deepEqual(await fabric.groupsOf({ kind: "host" }, false), ["sg-default"]);
    assert.equal(await fabric.ensure(bridge), "");
  });

  it("give containers without a network a group that lets agents be reached and nobody else", async () => {
    const fabric = networks();
    const [group = ""] = await fabric.groupsOf({ kind: "none" }, false);
    assert.deepEqual(ec2.rules(group), [
      "tcp 9111 10.0.0.0/8",
      "tcp 9111 fd00::/8",
      `tcp 9111 ${group}`,
      "tcp 9111 sg-frontend",
    ]);
    assert.deepEqual(ec2.rules(group, "IpPermissionsEgress"), [
      "tcp 2049 sg-efs",
      "tcp 443 0.0.0.0/0",
      "tcp 443 ::/0",
      `tcp 9111 ${group}`,
    ]);
    assert.deepEqual(await networks().groupsOf({ kind: "none" }, false), [group], "it is made once");
    assert.deepEqual(
      await networks().groupsOf(plan(), false),
      [group],
      "a container that has left all networks",
    );
    assert.deepEqual(await networks().found?.(), [], "it is no network");
  });

  for (const kind of ["none", "volumes"] as const) {
    it(`take the group of containers ${kind} away once there is none, and make it again`, async () => {
      const fabric = networks();
      const made = async () => (await fabric.groupsOf({ kind: "none" }, true))[kind === "none" ? 0 : 1] ?? "";
      const sweep = (isNeeded: boolean) =>
        fabric.sweep({ none: () => true, volumes: () => true, [kind]: () => isNeeded });
      const group = await made();
      await sweep(true);
      assert.ok(ec2.groups.has(group));
      ec2.held.add(group);
      await sweep(false);
      assert.ok(ec2.groups.has(group), "an interface holds it");
      ec2.held.delete(group);
      const [, again] = await Promise.all([sweep(false), made()]); // A start that comes meanwhile.
      assert.ok(ec2.groups.has(again));
      assert.equal(ec2.fake.made("CreateSecurityGroup").length, 3, "it was gone");
      assert.equal(ec2.rules("sg-efs").length, 1);
      await sweep(false);
      assert.ok(!ec2.groups.has(again));
      assert.equal(ec2.rules("sg-efs").length, kind === "none" ? 1 : 0);
      await fabric.close();
    });
  }

  it("give tasks with volumes the configured groups too where no group of the file system is named", async () => {
    const fabric = networks({ efsSecurityGroupId: undefined });
    const web = { ...network("web", "a"), driverReference: await fabric.ensure(network("web", "a")) };
    assert.deepEqual(await fabric.groupsOf(plan(web), true), [web.driverReference, "sg-default"]);
    assert.deepEqual(await fabric.groupsOf(plan(web), false), [web.driverReference]);
    assert.ok(log.warnings().some((message) => message.includes("carries the configured security groups")));
  });

  it("take one of the file system's few rules for all tasks with volumes, which nobody reaches by it", async () => {
    const fabric = networks();
    const records: ReturnType<typeof network>[] = [];
    for (let index = 10; index < 100; index++) {
      const record = network(`n${index}`, `${index}`);
      records.push({ ...record, driverReference: await fabric.ensure(record) });
      assert.equal((await fabric.groupsOf(plan(...records.slice(-1)), false)).length, 1);
    }
    assert.deepEqual(ec2.rules("sg-efs"), []);
    const given = await Promise.all(
      records.map(async (record) => (await fabric.groupsOf(plan(record), true)).slice(1)),
    );
    const [volumes = ""] = given[0] ?? [];
    assert.deepEqual(
      given,
      records.map(() => [volumes]),
    );
    assert.match(ec2.groups.get(volumes)?.GroupName ?? "", /^sockerless-net-volumes-[0-9a-f]{12}$/);
    assert.deepEqual(ec2.rules("sg-efs"), [`tcp 2049 ${volumes}`]);
    assert.deepEqual([ec2.rules(volumes), ec2.rules(volumes, "IpPermissionsEgress")], [[], []]);
    const asked = ec2.fake.made("AuthorizeSecurityGroupIngress");
    assert.equal(asked.filter(({ GroupId }) => GroupId === "sg-efs").length, 1);
    assert.deepEqual((await networks().groupsOf({ kind: "none" }, true)).slice(1), [volumes]);
    assert.equal((await networks().found?.())?.length, records.length, "it is no network");
  });

  it("keep the access to volumes that a former version gave them, where the file system has no room for a rule", async () => {
    const first = networks();
    const [web, app] = await Promise.all(
      (["a", "b"] as const).map(async (digit) => {
        const made = network(digit, digit);
        return { ...made, driverReference: await first.ensure(made) };
      }),
    );
    assert.ok(web !== undefined && app !== undefined);
    ec2.admit(web.driverReference);
    ec2.mostRules = 5;
    ec2.groups.get("sg-efs")?.IpPermissions.push({}, {}, {}, {});
    const full = { kind: "conflict", message: /has no room for a rule.*ask AWS/ };
    for (const fabric of [first, networks()]) {
      await assert.rejects(fabric.groupsOf(plan(app), true), full);
      await assert.rejects(fabric.groupsOf({ kind: "none" }, true), full);
      assert.deepEqual(await fabric.groupsOf(plan(app), false), [app.driverReference]);
      assert.deepEqual(await fabric.groupsOf(plan(web), true), [web.driverReference]);
      assert.deepEqual(await fabric.groupsOf(plan(app, network("bridge", "0")), true), [
        app.driverReference,
        "sg-default",
      ]);
      assert.deepEqual(await fabric.groupsOf(plan(app, web), true), [
        app.driverReference,
        web.driverReference,
      ]);
      assert.match(log.warnings().at(-1) ?? "", /by rules of its networks' own/);
      ec2.mountFaults.push(unanswered("ec2", "AuthorizeSecurityGroupIngress", "ECONNRESET", "reset"));
      await assert.rejects(fabric.groupsOf(plan(app, web), true), /AuthorizeSecurityGroupIngress/);
    }
    await first.remove(web);
    assert.equal((await first.groupsOf(plan(app), true)).length, 2);
  });

  it("fail a start with volumes while EC2 does not answer, and reach the file system at the next", async () => {
    const fabric = networks();
    const made = network("web", "a");
    const record = { ...made, driverReference: await fabric.ensure(made) };
    for (const fault of [
      refusal("ec2", "AuthorizeSecurityGroupIngress", "RequestLimitExceeded"),
      unanswered("ec2", "AuthorizeSecurityGroupIngress", "ECONNRESET", "reset"),
      refusal("ec2", "AuthorizeSecurityGroupIngress", "UnauthorizedOperation"),
    ]) {
      ec2.mountFaults.push(fault);
      await assert.rejects(fabric.groupsOf(plan(record), true), /AuthorizeSecurityGroupIngress/);
    }
    for (const process of [networks(), fabric]) {
      const [, volumes = ""] = await process.groupsOf(plan(record), true); // The next one after a crash there, too.
      assert.deepEqual(ec2.rules("sg-efs"), [`tcp 2049 ${volumes}`]);
      assert.deepEqual(ec2.rules(volumes, "IpPermissionsEgress"), []);
    }
  });

  it("take no way out by a group for volumes that EC2 shows late", async () => {
    const calls = ec2.fake.calls;
    ec2.mountFaults.push(
      ...Array.from({ length: 3 }, () =>
        refusal("ec2", "AuthorizeSecurityGroupIngress", "InvalidGroup.NotFound"),
      ),
    );
    const [, volumes = ""] = await passing(clock, networks().groupsOf({ kind: "none" }, true));
    assert.deepEqual(ec2.rules(volumes, "IpPermissionsEgress"), []);
    const isOf = (groupId: string, name: string) => (call: (typeof calls)[number]) =>
      call.operation === name && call.input["GroupId"] === groupId;
    assert.ok(
      calls.findLastIndex(isOf("sg-efs", "AuthorizeSecurityGroupIngress")) <
        calls.findIndex(isOf(volumes, "RevokeSecurityGroupEgress")),
      "a revocation would be lost before",
    );
  });

  it("can be removed though the file system's group is gone", async () => {
    const fabric = networks({ efsSecurityGroupId: "sg-gone" });
    const made = network("web", "a");
    await fabric.remove({ ...made, driverReference: await fabric.ensure(made) });
    assert.deepEqual([...ec2.groups.keys()], ["sg-default", "sg-efs"]);
  });

  it("are five at most for one task", async () => {
    const fabric = networks();
    const joined = [...Array(6).keys()].map((digit) => ({
      ...network(`n${digit}`, String(digit)),
      driverReference: `sg-n${digit}`,
    }));
    const five = joined.slice(1).map(({ driverReference }) => driverReference);
    assert.deepEqual(await fabric.groupsOf(plan(...joined.slice(1)), false), five);
    const [first = ""] = five;
    assert.deepEqual(
      await fabric.groupsOf(plan(...joined.slice(1)), true),
      five,
      "volumes need none besides",
    );
    const rules = ec2.rules("sg-efs");
    assert.equal(rules.length, 2, "the one of all others is sure of its room");
    assert.ok(rules.includes(`tcp 2049 ${first}`));
    await fabric.groupsOf(plan(...joined.slice(1).reverse()), true);
    assert.deepEqual(ec2.rules("sg-efs"), rules, "one that is let in is enough");
    await fabric.remove(joined[1] ?? network("", ""));
    assert.equal(ec2.rules("sg-efs").length, 1, "a rule goes with its network");
    await assert.rejects(async () => fabric.groupsOf(plan(...joined), false), {
      kind: "invalid",
      message: /has 5 security groups .*, not 6$/,
    });
  });

  it("are as many for a running container as its next start can have", async () => {
    const fabric = networks();
    const connected = (...names: string[]) => {
      const endpoints = Object.fromEntries(names.map((name) => [name, { networkId: name }]));
      const after = create(ContainerRecordSchema, { endpoints });
      const endpoint = after.endpoints["d"];
      assert.ok(endpoint);
      const change = { before: after, after, network: network("d", "d"), endpoint, defaultGateway: "" };
      return async () => fabric.connect?.(change);
    };
    await connected("a", "b", "c", "d", "bridge")();
    await connected("a", "b", "c", "d", "e")();
    await assert.rejects(connected("a", "b", "c", "d", "e", "f"), /has 5 security groups/);
  });

  it("are joined by running containers in name at once and for traffic later, which is logged", async () => {
    const fabric = networks();
    const record = network("web", "a");
    const endpoints = { web: { networkId: id("a") } };
    const after = create(ContainerRecordSchema, { id: id("c"), name: "one", endpoints });
    const endpoint = after.endpoints["web"];
    assert.ok(endpoint);
    const change = { before: after, after, network: record, endpoint, defaultGateway: "" };
    await fabric.connect?.(change);
    assert.match(log.warnings()[0] ?? "", /traffic flows from its next start on/);
    await fabric.disconnect?.(change);
    assert.match(log.warnings()[1] ?? "", /traffic stops at its end/);
  });

  it("are names alone where they share the configured groups", async () => {
    const fabric = networks({ isolation: "shared" });
    const web = { ...network("web", "a"), driverReference: await fabric.ensure(network("web", "a")) };
    assert.deepEqual(await fabric.groupsOf(plan(web), true), ["sg-default"]);
    await fabric.remove(web);
    assert.deepEqual(ec2.fake.calls, []);
    assert.deepEqual(await fabric.found?.(), []);
  });

  it("that were names alone go with the groups that they have since, also in another process", async () => {
    const web = { ...network("web", "a"), driverReference: "shared" };
    for (const isSame of [true, false]) {
      const fabric = networks();
      await fabric.ensure(web);
      await (isSame ? fabric : networks()).remove(web);
      assert.deepEqual([...ec2.groups.keys()], ["sg-default", "sg-efs"]);
    }
  });

  it("have small virtual address ranges", () => {
    assert.deepEqual(networks().addressPools?.slice(0, 2), [
      { base: "172.17.0.0/16", size: 16 },
      { base: "172.18.0.0/15", size: 24 },
    ]);
  });
});
