import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { Code, ConnectError } from "@connectrpc/connect";

import { type ErrorKind, isErrorKind, messageOf } from "../../../src/common/errors.ts";
import { until, untilTrue } from "../../support/until.ts";
import { EngineBench } from "../engine-bench.ts";

describe("user-defined networks", () => {
  const bench = EngineBench.ofEach();

  const on = (network: string, name: string, aliases: readonly string[] = []) =>
    bench.runScript("exec sleep 1000", {
      name,
      hostConfig: { networkMode: network },
      networking: { endpoints: { [network]: { aliases: [...aliases] } } },
    });
  const namesOf = (id: string) => bench.machine.agentOf(id).names;
  const addressOf = (id: string, network: string) =>
    bench.state.containers.get(id)?.endpoints[network]?.ipAddress ?? "";

  it("take the first pool from 172.18.0.0/16 on that nothing uses", async () => {
    for (const [name, subnet] of [
      ["a", "172.19.0.0/16"],
      ["b", "172.20.0.0/16"],
    ] as const) {
      await bench.networks.createNetwork({ name });
      const { network } = await bench.networks.inspectNetwork({ network: name });
      assert.equal(
        network?.pools[0]?.subnet,
        subnet,
        "172.18.0.0/16 is the bridge's: a route of the machine overlaps the first",
      );
    }
    await bench.networks.removeNetwork({ network: "a" });
    await bench.networks.createNetwork({ name: "c" });
    const { network } = await bench.networks.inspectNetwork({ network: "c" });
    assert.equal(network?.pools[0]?.subnet, "172.19.0.0/16");
  });

  it("tell every member the names of all, before the process of a new one runs", async () => {
    await bench.networks.createNetwork({ name: "net" });
    const first = await on("net", "first", ["one"]);
    const second = await on("net", "second");
    for (const id of [first, second]) {
      assert.equal(namesOf(id).get("one.net"), addressOf(first, "net"));
      assert.equal(namesOf(id).get("second.net"), addressOf(second, "net"));
    }
    await bench.containers.removeContainer({ container: second, force: true });
    const left = ["first.net", `${first.slice(0, 12)}.net`, "one.net"].sort().join();
    await until(() => ([...namesOf(first).keys()].sort().join() === left ? true : undefined));
  });

  it("tell names again to a member that could not take them, and start others all the same", async () => {
    await bench.networks.createNetwork({ name: "net" });
    const first = await on("net", "first");
    bench.machine.agentOf(first).failingNames = 1;
    const second = await on("net", "second");
    await until(() => namesOf(first).get("second.net") === addressOf(second, "net") || undefined);
  });

  it("start others beside a member that answers no names", { timeout: 30_000 }, async () => {
    await bench.networks.createNetwork({ name: "net" });
    const silent = bench.machine.agentOf(await on("net", "silent"));
    silent.busyNames = Promise.withResolvers();
    const begun = performance.now();
    for (const name of ["one", "two", "three"]) {
      await on("net", name);
    }
    assert.ok(performance.now() - begun < 15_000, "the first alone waits for two seconds");
    silent.busyNames.resolve();
  });

  it("start others beside a member that takes names late, time and again", { timeout: 30_000 }, async () => {
    await bench.networks.createNetwork({ name: "net" });
    const id = await on("net", "slow");
    const tookMs: number[] = [];
    for (const name of ["one", "two", "three", "four"]) {
      if (name === "three") {
        await bench.containers.restartContainer({ container: id, timeoutSeconds: 0 });
      }
      const slow = bench.machine.agentOf(id);
      const busy = Promise.withResolvers<void>();
      slow.busyNames = busy;
      const begun = performance.now();
      await on("net", name);
      tookMs.push(performance.now() - begun);
      slow.busyNames = undefined;
      busy.resolve();
      await untilTrue(() => namesOf(id).has(`${name}.net`));
    }
    assert.ok(Math.max(...tookMs.slice(1)) < 1_500, `starts took ${tookMs.map(Math.round).join(", ")} ms`);
  });

  it("are pruned without a look at all containers for each", async (context) => {
    const labels = { pruned: "" };
    for (let n = 0; n < 20; n++) {
      await bench.networks.createNetwork({ name: `net-${n}`, labels });
    }
    const looks = context.mock.method(bench.state.containers, "values");
    const { removed } = await bench.networks.pruneNetworks({ filters: { label: { values: ["pruned"] } } });
    assert.equal(removed.length, 20);
    assert.ok(looks.mock.callCount() < 20, `${looks.mock.callCount()} looks`);
  });

  it("keep no name of a container that was to join them and could not be told of it", async () => {
    await bench.networks.createNetwork({ name: "net" });
    const first = await on("net", "first");
    const id = await bench.runScript("exec sleep 1000", { name: "deaf" });
    const deaf = bench.machine.agentOf(id);
    deaf.failingNames = 1;
    deaf.busyNames = Promise.withResolvers();
    const connected = bench.networks.connectNetwork({ network: "net", container: id });
    connected.catch(() => undefined);
    await untilTrue(() => namesOf(first).has("deaf.net"));
    deaf.busyNames.resolve();
    await assert.rejects(connected, /not now/);
    assert.equal(bench.state.containers.get(id)?.endpoints["net"], undefined);
    await untilTrue(() => !namesOf(first).has("deaf.net"));
    await bench.networks.connectNetwork({ network: "net", container: id });
    assert.equal(namesOf(first).get("deaf.net"), addressOf(id, "net"));
  });

  it("are without names, which the log has once, where an agent cannot answer them", async (context) => {
    const logged: unknown[] = [];
    context.mock.method(bench.engine.context.logger, "warn", (_values: unknown, text: unknown) => {
      logged.push(text);
    });
    const id = await bench.runScript("exec sleep 1000", { name: "deaf" });
    bench.machine.agentOf(id).namesRefusal = new ConnectError(
      "cannot answer names: read-only",
      Code.FailedPrecondition,
    );
    await bench.networks.createNetwork({ name: "net" });
    await bench.networks.connectNetwork({ network: "net", container: id });
    const other = await on("net", "other");
    assert.equal(namesOf(other).get("deaf.net"), addressOf(id, "net"));
    assert.deepEqual(logged, [
      "the names of other containers do not resolve in container deaf: cannot answer names: read-only",
    ]);
  });

  it("tell names again to containers that ran on while the backend was away", async () => {
    await bench.networks.createNetwork({ name: "net" });
    const id = await on("net", "stays");
    await bench.stopBackend();
    bench.machine.agentOf(id).names = new Map();
    await bench.startBackend();
    await bench.engine.context.live.of(id).lock.run(() => Promise.resolve());
    assert.equal(namesOf(id).get("stays.net"), addressOf(id, "net"));
  });

  it("cannot be removed while a container runs on them, and then can", async () => {
    const { id: network } = await bench.networks.createNetwork({ name: "net" });
    const id = await on("net", "member");
    await assert.rejects(
      bench.networks.removeNetwork({ network: "net" }),
      (error) =>
        isErrorKind(error, "forbidden") && /has active endpoints \(name:"member"/.test(messageOf(error)),
    );
    assert.deepEqual((await bench.networks.pruneNetworks({})).removed, []);
    await bench.containers.stopContainer({ container: id, timeoutSeconds: 0 });
    await bench.networks.removeNetwork({ network: "net" });
    assert.deepEqual(await bench.eventNames({ network: [network] }), [
      "network create",
      "network connect",
      "network disconnect",
      "network destroy",
    ]);
    await assert.rejects(bench.containers.startContainer({ container: id }), /network net not found/);
  });

  it("give an address that was asked for only where their subnet was", async () => {
    await bench.networks.createNetwork({ name: "any" });
    const asking = (network: string, ipv4Address: string) =>
      bench.createScript("exit 0", {
        hostConfig: { networkMode: network },
        networking: { endpoints: { [network]: { ipv4Address, hasIpamConfig: true } } },
      });
    await assert.rejects(
      asking("any", "172.19.0.9"),
      (error) =>
        isErrorKind(error, "invalid") &&
        /only when connecting to networks with user configured/.test(messageOf(error)),
    );
    await bench.networks.createNetwork({ name: "fixed", pools: [{ subnet: "10.99.0.0/24" }] });
    await assert.rejects(
      asking("fixed", "10.98.0.9"),
      /no configured subnet or ip-range contain the IP address/,
    );
    const id = await asking("fixed", "10.99.0.9");
    await bench.containers.startContainer({ container: id });
  });

  it("show the MAC address that was asked for as sent, and while the container runs as its interface does", async () => {
    await bench.networks.createNetwork({ name: "net" });
    const id = await bench.createScript("exec sleep 1000");
    const shown = () => bench.state.containers.get(id)?.endpoints["net"]?.macAddress;
    const endpoint = { macAddress: "02-42-AC-11-00-0A" };
    await bench.networks.connectNetwork({ network: "net", container: id, endpoint });
    assert.equal(shown(), "02-42-AC-11-00-0A");
    await bench.containers.startContainer({ container: id });
    assert.equal(shown(), "02:42:ac:11:00:0a");
    await bench.networks.disconnectNetwork({ network: "net", container: id });
    await bench.networks.connectNetwork({ network: "net", container: id, endpoint });
    assert.equal(shown(), "02:42:ac:11:00:0a");
  });

  it("that hold settings for others are joined by nobody, and stay while one was made from them", async () => {
    const { id: source } = await bench.networks.createNetwork({
      name: "settings",
      configOnly: true,
      pools: [{ subnet: "10.97.0.0/24", gateway: "10.97.0.9" }],
      labels: { made: "here" },
    });
    await bench.stopBackend();
    await bench.startBackend();
    assert.equal(bench.machine.networks.has("settings"), false, "the driver hears nothing of it");
    const asking = { name: "made", configFrom: "settings", internal: true };
    const { id } = await bench.networks.createNetwork(asking);
    const { network } = await bench.networks.inspectNetwork({ network: id });
    assert.equal(network?.configFrom, "settings");
    assert.equal(network.pools[0]?.subnet, "10.97.0.0/24");
    assert.equal(network.pools[0]?.gateway, "10.97.0.9");
    assert.deepEqual(network.labels, { made: "here" });
    assert.equal(network.internal, true);
    const refused = (call: Promise<unknown>, kind: ErrorKind, message: string) =>
      assert.rejects(call, (error) => isErrorKind(error, kind) && messageOf(error) === message);
    await refused(
      bench.networks.createNetwork({ ...asking, name: "twice" }),
      "forbidden",
      "invalid pool request: Pool overlaps with other one on this address space",
    );
    await refused(
      bench.networks.createNetwork({ name: "from-nothing", configFrom: source }),
      "not-found",
      `configuration network "${source}" does not exist`, // It is looked up by name.
    );
    await refused(
      bench.networks.removeNetwork({ network: source }),
      "forbidden",
      'error while removing network: configuration network "settings" is in use',
    );
    const none = "cannot create endpoint on configuration-only network";
    await refused(on("settings", "nobody"), "forbidden", `failed to set up container networking: ${none}`);
    const running = await bench.runScript("exec sleep 1000");
    await refused(
      bench.networks.connectNetwork({ network: "settings", container: running }),
      "forbidden",
      none,
    );
    assert.deepEqual((await bench.networks.pruneNetworks({})).removed, ["made"]);
    await bench.networks.removeNetwork({ network: "settings" });
    assert.deepEqual(await bench.eventNames({ network: [source] }), ["network create"], "as in Docker");
  });

  it("are two with one name never, even when both are asked for at once", async () => {
    const answers = await Promise.allSettled([
      bench.networks.createNetwork({ name: "twin" }),
      bench.networks.createNetwork({ name: "twin" }),
    ]);
    assert.deepEqual(answers.map(({ status }) => status).sort(), ["fulfilled", "rejected"]);
  });

  it("are left with what a failed connection took", async () => {
    await bench.networks.createNetwork({ name: "net" });
    const id = await bench.runScript("exec sleep 1000");
    const { networks } = bench.engine.context.driver;
    const { connect } = networks;
    assert.ok(connect !== undefined);
    networks.connect = () => Promise.reject(new Error("no cable"));
    await assert.rejects(bench.networks.connectNetwork({ network: "net", container: id }), /no cable/);
    assert.deepEqual(Object.keys(bench.state.containers.get(id)?.endpoints ?? {}), ["bridge"]);
    networks.connect = connect;
    await bench.networks.connectNetwork({ network: "net", container: id });
    assert.equal(addressOf(id, "net"), "172.19.0.2", "the address is free again");
  });

  it("are joined to the default bridge again where a backend died within a disconnection", async () => {
    const id = await bench.runScript("exec sleep 1000");
    await bench.stopBackend();
    bench.machine.legs.delete(`${id} bridge`);
    await bench.startBackend();
    await untilTrue(() => bench.machine.legs.has(`${id} bridge`));
  });
});
