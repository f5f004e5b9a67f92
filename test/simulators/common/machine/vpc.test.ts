import assert from "node:assert/strict";
import { test } from "node:test";
import { CommandFailed, Enclosure } from "./enclosure.ts";
import { contains, ipv6Address, ipv6Network, parseCidr } from "./cidr.ts";
import { Vpc } from "./vpc.ts";

test("addresses of the VPC reach one another and this machine as their groups allow", async () => {
  await using enclosure = await Enclosure.start();
  await using vpc = await Vpc.start(enclosure);
  const attach = (host: string, mac: string, groupIds: readonly string[]) =>
    vpc.attach({
      privateIpAddress: vpc.cidr.replace(/0\/.*/, host),
      macAddress: mac,
      subnet: { cidr: vpc.cidr, routerAddress: vpc.hostAddress },
      groupIds,
    });
  const one = await attach("4", "0a:00:00:00:00:04", ["sg-1"]);
  const two = await attach("5", "0a:00:00:00:00:05", ["sg-2"]);
  await vpc.setGroup("sg-1", { ingress: [], egress: [{ protocol: "-1", cidr: "0.0.0.0/0" }] });
  /** @param seconds that an answer may take */
  const pings = async (namespace: string, address: string, seconds = 60): Promise<boolean> => {
    const ping = ["/bin/busybox", "ping", "-c1", `-W${seconds}`, address];
    try {
      await enclosure.run(["nsenter", `--net=${namespace}`, ...ping]);
      return true;
    } catch (error) {
      assert.ok(error instanceof CommandFailed);
      return false;
    }
  };

  assert.equal(await pings(one.namespace, two.endpoint.privateIpAddress, 1), false);
  await vpc.setGroup("sg-2", { ingress: [{ protocol: "icmp", groupId: "sg-1" }], egress: [] });
  assert.equal(await pings(one.namespace, two.endpoint.privateIpAddress), true);
  assert.equal(await pings(two.namespace, one.endpoint.privateIpAddress, 1), false);
  assert.equal(await pings(two.namespace, vpc.hostAddress, 1), false, "the second group lets nothing out");
  assert.equal(await pings(one.namespace, vpc.hostAddress), true);
  await vpc.setCut(one, true);
  assert.equal(await pings(one.namespace, two.endpoint.privateIpAddress, 1), false);
  await vpc.setCut(one, false);
  assert.equal(await pings(one.namespace, two.endpoint.privateIpAddress), true);
  const pinged = { ingress: [{ protocol: "icmp", groupId: "sg-1" }], egress: [] };
  await Promise.all([vpc.setGroup("sg-2", { ingress: [], egress: [] }), vpc.setGroup("sg-2", pinged)]);
  assert.equal(await pings(one.namespace, two.endpoint.privateIpAddress), true, "the last rules hold");
  await vpc.detach(one);
  await vpc.detach(two);
});

test("a range of either family has the addresses in it, and none of the other", () => {
  const vpc = parseCidr("10.64.0.0/18");
  assert.equal(ipv6Network(vpc, 0), "fd73:a40:0:0::/56");
  const subnet = ipv6Network(vpc, 1);
  const address = ipv6Address(subnet, vpc.base + 4);
  assert.equal(address, "fd73:a40:0:1::a40:4");
  for (const [range, one, isIn] of [
    [subnet, address, true],
    [ipv6Network(vpc, 0), address, true],
    [ipv6Network(vpc, 2), address, false],
    ["::/0", address, true],
    ["0.0.0.0/0", address, false],
    ["10.64.0.0/18", "10.64.0.4", true],
    ["::/0", "10.64.0.4", false],
  ] as const) {
    assert.equal(contains(range, one), isIn, `${one} in ${range}`);
  }
});
