import assert from "node:assert/strict";
import { test } from "node:test";

import { type Aws, startAws } from "../../aws.ts";
import type { NetworkInterface } from "../../cloud.ts";
import { Network } from "./network.ts";

function interfaceIn(
  aws: Aws,
  groupIds: readonly string[],
  subnetId = aws.account.subnetIds[0],
): NetworkInterface {
  return aws.services.network.createInterface({ subnetId: subnetId ?? "", groupIds, description: "a task" });
}

function group(aws: Aws, name: string): string {
  return aws.services.network.groups.create(name, name, {}, aws.account.vpcId).groupId;
}

test("addresses are unlike AWS's own five, given once, and again when they are given back", async () => {
  await using aws = await startAws({ lightweight: true });
  const network = new Network(aws.context, "10.0.0.0/27");
  const [subnet] = network.subnets();
  assert.ok(subnet);
  const make = (): NetworkInterface =>
    network.createInterface({ subnetId: subnet.subnetId, groupIds: [], description: "a task" });
  assert.equal(network.freeAddresses(subnet), 11);
  const made = Array.from({ length: 11 }, make);
  assert.deepEqual(
    new Set(made.map(({ privateIpAddress }) => privateIpAddress)),
    new Set(Array.from({ length: 11 }, (_, index) => `10.0.0.${4 + index}`)),
  );
  assert.throws(make, { code: "InsufficientFreeAddressesInSubnet" });
  network.deleteInterface(made[3]?.networkInterfaceId ?? "");
  assert.equal(make().privateIpAddress, made[3]?.privateIpAddress);
});

test("an interface has five groups at most, and the account a number of interfaces", async () => {
  await using aws = await startAws({ lightweight: true });
  const groupIds = ["a", "b", "c", "d", "e"].map((name) => group(aws, name));
  interfaceIn(aws, groupIds);
  assert.throws(() => interfaceIn(aws, [...groupIds, group(aws, "f")]), {
    code: "SecurityGroupsPerInterfaceLimitExceeded",
  });
  assert.throws(() => interfaceIn(aws, ["sg-0123456789abcdef0"]), { code: "InvalidGroup.NotFound" });
  assert.throws(() => interfaceIn(aws, groupIds, "subnet-1"), { code: "InvalidSubnetID.NotFound" });
  aws.quotas.networkInterfaces = aws.services.network.interfaces().length;
  assert.throws(() => interfaceIn(aws, groupIds), { code: "NetworkInterfaceLimitExceeded" });
});

test("a packet passes when a rule of either side lets it", async () => {
  await using aws = await startAws({ lightweight: true });
  const { network } = aws.services;
  const [web, client] = [group(aws, "web"), group(aws, "client")];
  const [from, to] = [interfaceIn(aws, [client]), interfaceIn(aws, [web])];
  assert.equal(network.allows(from, to, 80), false);
  const http = { groupId: web, direction: "ingress", protocol: "tcp", fromPort: 80, toPort: 81 } as const;
  const byGroup = [{ ...http, peer: { groupId: client } }];
  network.groups.authorize(web, byGroup, {});
  assert.deepEqual(
    [79, 80, 81, 82].map((port) => network.allows(from, to, port)),
    [false, true, true, false],
  );
  assert.equal(network.allows(from, to, 80, "udp"), false);
  assert.equal(network.allows(to, from, 80), false);
  network.groups.revoke(web, byGroup);
  network.groups.authorize(web, [{ ...http, peer: { cidr: `${from.privateIpAddress}/32` } }], {});
  assert.equal(network.allows(from, to, 80), true);
  network.groups.revoke(client, network.rulesOf([client]));
  assert.equal(network.allows(from, to, 80), false);
});

test("listeners hear of rules and interfaces that come and go", async () => {
  await using aws = await startAws({ lightweight: true });
  const { network } = aws.services;
  let changes = 0;
  const stop = network.onChanged(() => {
    changes += 1;
  });
  const groupId = group(aws, "web");
  const { networkInterfaceId } = interfaceIn(aws, [groupId]);
  network.groups.revoke(groupId, network.rulesOf([groupId]));
  network.deleteInterface(networkInterfaceId);
  assert.equal(changes, 4);
  stop();
  network.groups.delete(groupId);
  assert.equal(changes, 4);
});
