/** No two networks of a machine have the same addresses: those of instances that are started and asked at the same time. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { backendUnderTest } from "../support/backend-under-test.ts";
import type { Daemon } from "../support/daemon.ts";
import { startDaemon } from "../support/with-daemon.ts";

/** Addresses of tasks' networks are virtual, and known within one instance only. */
const count = backendUnderTest() === "local" ? 3 : 1;
const resources = new AsyncDisposableStack();
const instances: Daemon[] = [];
before(async () => {
  const starting = Array.from({ length: count }, () => startDaemon(resources));
  instances.push(...(await Promise.all(starting)));
});
after(async () => {
  await resources.disposeAsync();
});

const subnetOf = (daemon: Daemon, network: string) =>
  daemon.ok(
    ...["network", "inspect"],
    ...["--format={{(index .IPAM.Config 0).Subnet}} {{(index .IPAM.Config 0).Gateway}}", network],
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
