/** Instances on one machine, started and asked at the same time: no two networks have the same addresses. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { Daemon } from "../support/daemon.ts";

const instances: Daemon[] = [];
before(async () => {
  instances.push(...(await Promise.all([Daemon.start(), Daemon.start(), Daemon.start()])));
});
after(async () => {
  await Promise.all(instances.map((daemon) => daemon.stop()));
});

const subnetOf = (daemon: Daemon, network: string) =>
  daemon.ok(
    "network",
    "inspect",
    "--format",
    "{{(index .IPAM.Config 0).Subnet}} {{(index .IPAM.Config 0).Gateway}}",
    network,
  );

test("each takes pools of its own", async () => {
  const names = ["one", "two"];
  await Promise.all(instances.flatMap((daemon) => names.map((name) => daemon.ok("network", "create", name))));
  const subnets = await Promise.all(
    instances.flatMap((daemon) => ["bridge", ...names].map((name) => subnetOf(daemon, name))),
  );
  assert.equal(new Set(subnets).size, instances.length * 3, subnets.join("\n"));
  for (const subnet of subnets) {
    const [base = "", gateway] = subnet.split(" ");
    assert.equal(gateway, base.replace(/0\/\d+$/, "1"));
  }
});
