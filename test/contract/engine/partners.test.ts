import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";

import { announceSharers } from "../../../src/backends/engine/networks/partner-pushes.ts";
import { until } from "../../support/until.ts";
import { EngineBench } from "../engine-bench.ts";

describe("containers of a cloud that nobody reaches", () => {
  const bench = EngineBench.ofEach(() => ({
    cloud: true,
    prepare(machine) {
      machine.reachOneAnother = false;
    },
  }));

  it("do not start where they are to share a network", async () => {
    const owner = await bench.runScript("exec sleep 1000", { name: "owner" });
    const joined = await bench.createScript("exec sleep 1000", {
      hostConfig: { networkMode: `container:${owner}` },
    });
    await assert.rejects(
      bench.containers.startContainer({ container: joined }),
      /cannot share the network of container owner: containers do not reach its agent/,
    );
  });

  it("are not told to their peers by addresses that lead nowhere", async () => {
    await bench.networks.createNetwork({ name: "net" });
    const hostConfig = { networkMode: "net" };
    const first = await bench.runScript("exec sleep 1000", { name: "first", hostConfig });
    await bench.runScript("exec sleep 1000", { name: "second", hostConfig });
    assert.deepEqual([...bench.machine.agentOf(first).names.keys()], []);
    bench.machine.reachOneAnother = true;
    await bench.runScript("exec sleep 1000", { name: "third", hostConfig });
    await until(
      () => bench.machine.agentOf(first).names.get("third.net")?.startsWith("10.9.0.") || undefined,
    );
  });

  it("are not linked to by addresses that lead nowhere", async () => {
    await bench.runScript("exec sleep 1000", { name: "first" });
    const linking = await bench.createScript("exec sleep 1000", { hostConfig: { links: ["first"] } });
    await assert.rejects(
      bench.containers.startContainer({ container: linking }),
      /Cannot link to \/first: containers do not reach one another here/,
    );
  });
});

describe("containers of a cloud that share a network", () => {
  const bench = EngineBench.ofEach(() => ({ cloud: true }));

  it("are no one's where a container names itself, and the backend goes on", async () => {
    const hostConfig = { networkMode: "container:itself" };
    const itself = await bench.createScript("exec sleep 1000", { name: "itself", hostConfig });
    await assert.rejects(
      bench.containers.startContainer({ container: itself }),
      /cannot join own network namespace/,
    );
    const { context } = bench.engine;
    const record = context.state.containers.get(itself);
    assert.ok(record !== undefined);
    announceSharers(context, record);
    await bench.runScript("exec sleep 1000");
  });

  it("join networks where one of them answers no names", { timeout: 60_000 }, async () => {
    await bench.networks.createNetwork({ name: "net" });
    const owner = await bench.runScript("exec sleep 1000", { hostConfig: { networkMode: "net" } });
    const sharer = await bench.runScript("exec sleep 1000", {
      hostConfig: { networkMode: `container:${owner}` },
    });
    const silent = bench.machine.agentOf(sharer);
    silent.busyNames = Promise.withResolvers();
    const begun = performance.now();
    for (const network of ["one", "two", "three"]) {
      await bench.networks.createNetwork({ name: network });
      await bench.networks.connectNetwork({ network, container: owner });
    }
    assert.ok(performance.now() - begun < 15_000, "the first alone waits for two seconds");
    silent.busyNames.resolve();
  });

  it("are told once of all that changed while they were told before", async (context) => {
    const owner = await bench.runScript("exec sleep 1000");
    // It is not started: that would tell its owner, whose agent may be slow to answer.
    const joined = await bench.createScript("exec sleep 1000", {
      hostConfig: { networkMode: `container:${owner}` },
    });
    const engine = bench.engine.context;
    const live = engine.live.peek(owner);
    const client = live?.link?.agent.client;
    const record = engine.state.containers.get(joined);
    assert.ok(client !== undefined && record !== undefined);
    /** Resolves once everything that was asked for until now has been told. */
    const settled = async () => {
      await live?.link?.partners.run(() => Promise.resolve());
      await nextTurn();
    };
    const { partners } = client;
    const held = Promise.withResolvers<void>();
    const told = context.mock.method(client, "partners", async (request: Parameters<typeof partners>[0]) => {
      await held.promise;
      return await partners(request);
    });
    for (let change = 0; change < 5; change++) {
      announceSharers(engine, record);
    }
    held.resolve();
    await until(() => told.mock.callCount() >= 2 || undefined);
    await settled();
    assert.equal(told.mock.callCount(), 2);
    announceSharers(engine, record);
    await until(() => told.mock.callCount() >= 3 || undefined);
  });
});
