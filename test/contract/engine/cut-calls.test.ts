import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { isErrorKind } from "../../../src/common/errors.ts";
import { ManualClock } from "../../../src/common/manual-clock.ts";
import { UnsettledError } from "../../../src/backends/driver/unsettled-error.ts";
import { Phase, type VolumeRecord } from "../../../src/gen/sockerless/state/v1/state_pb.ts";
import { until } from "../../support/until.ts";
import { EngineBench } from "../engine-bench.ts";

describe("what a backend was making or removing when it was told to end", () => {
  const bench = EngineBench.ofEach();

  /** Ends the backend when the machine has done what it is asked, before it has said so; then starts the next one. */
  async function endDuring(call: () => Promise<unknown>, isDone: () => boolean): Promise<void> {
    bench.machine.isMute = true;
    const cut = assert.rejects(call());
    await until(() => isDone() || undefined);
    await bench.stopBackend();
    await cut;
    bench.machine.isMute = false;
    await bench.startBackend();
    const networks = [...bench.state.networks.values()].map(({ network }) => network?.name ?? "");
    assert.deepEqual(new Set(networks), bench.machine.networks);
    assert.deepEqual(new Set(bench.state.volumes.keys()), bench.machine.volumes);
  }

  const volumes = async () => (await bench.volumes.listVolumes({})).volumes.map(({ name }) => name);
  const networks = async () =>
    (await bench.networks.listNetworks({ filters: { type: { values: ["custom"] } } })).networks.map(
      ({ name }) => name,
    );

  it("is a volume that the next one has, and tells of once", async () => {
    const { machine } = bench;
    await endDuring(
      () => bench.volumes.createVolume({ name: "data" }),
      () => machine.volumes.has("data"),
    );
    assert.deepEqual(await volumes(), ["data"]);
    assert.deepEqual(await bench.eventNames({ type: ["volume"] }), ["volume create"]);
  });

  it("is a volume that the next one has no more, and tells of once", async () => {
    const { machine } = bench;
    await bench.volumes.createVolume({ name: "data" });
    await endDuring(
      () => bench.volumes.removeVolume({ name: "data" }),
      () => !machine.volumes.has("data"),
    );
    assert.deepEqual(await volumes(), []);
    assert.deepEqual(await bench.eventNames({ type: ["volume"] }), ["volume create", "volume destroy"]);
  });

  it("is a network that the next one has, and tells of once", async () => {
    const { machine } = bench;
    await endDuring(
      () => bench.networks.createNetwork({ name: "web" }),
      () => machine.networks.has("web"),
    );
    assert.deepEqual(await networks(), ["web"]);
    assert.deepEqual(await bench.eventNames({ type: ["network"] }), ["network create"]);
  });

  it("is a network that the next one has no more, and tells of once", async () => {
    const { machine } = bench;
    await bench.networks.createNetwork({ name: "web" });
    await endDuring(
      () => bench.networks.removeNetwork({ network: "web" }),
      () => !machine.networks.has("web"),
    );
    assert.deepEqual(await networks(), []);
    assert.deepEqual(await bench.eventNames({ type: ["network"] }), ["network create", "network destroy"]);
  });

  it("is a container that the next one does not have, nor its anonymous volume", async () => {
    const { machine } = bench;
    await endDuring(
      () => bench.createScript("true", { config: { image: "with-volume" } }),
      () => machine.volumes.size > 0,
    );
    assert.equal(bench.state.containers.size, 0);
    assert.equal(machine.workloads.size, 0);
    assert.deepEqual(await bench.eventNames(), []);
  });

  it("does not keep its name where it can never be made", async (context) => {
    await bench.volumes.createVolume({ name: "data" });
    const record = bench.state.volumes.get("data");
    assert.ok(record !== undefined);
    await bench.state.commit((change) => change.volumes.put({ ...record, phase: Phase.CREATING }));
    context.mock.method(
      bench.engine.context.driver.volumes,
      "create",
      () => Promise.reject(new Error("no room for so much")),
      { times: 1 },
    );
    await bench.volumes.createVolume({ name: "data", labels: { size: "less" } });
    assert.deepEqual(await volumes(), ["data"]);
    assert.deepEqual(bench.state.volumes.get("data")?.labels, { size: "less" });
    assert.deepEqual([...bench.machine.volumes], ["data"]);
  });

  it("is finished before a volume of that name is made", async () => {
    await bench.volumes.createVolume({ name: "data" });
    const record = bench.state.volumes.get("data");
    assert.ok(record);
    await bench.state.commit((change) => change.volumes.put({ ...record, phase: Phase.CREATING }));
    await bench.volumes.createVolume({ name: "data" });
    // A cloud knows a creation that is repeated by its time.
    assert.deepEqual(bench.state.volumes.get("data")?.created, record.created);

    await bench.state.commit((change) => change.volumes.put({ ...record, phase: Phase.REMOVING }));
    await bench.volumes.createVolume({ name: "data" });
    const names = await bench.eventNames({ type: ["volume"] });
    assert.deepEqual(names.slice(-2), ["volume destroy", "volume create"]);
    assert.notDeepEqual(bench.state.volumes.get("data")?.created, record.created);
  });
});

describe("a volume whose creation failed, and may have been done", () => {
  const bench = EngineBench.ofEach();

  const lost = () => new UnsettledError("system", "the answer was lost");
  const phaseOf = () => bench.state.volumes.get("data")?.phase;
  const volumes = async () => (await bench.volumes.listVolumes({})).volumes.map(({ name }) => name);

  it("is there for nobody, and is found when its name is used again", async (context) => {
    const driver = bench.engine.context.driver.volumes;
    const { create } = driver;
    const failing = context.mock.method(driver, "create", async (record: VolumeRecord) => {
      await create.call(driver, record);
      throw lost();
    });
    await assert.rejects(bench.volumes.createVolume({ name: "data" }), /the answer was lost/);
    const record = bench.state.volumes.get("data");
    assert.deepEqual([record?.phase, await volumes()], [Phase.CREATING, []]);
    await assert.rejects(bench.volumes.createVolume({ name: "data" }), /the answer was lost/);
    assert.equal(phaseOf(), Phase.CREATING);
    failing.mock.mockImplementation(create);
    await bench.volumes.createVolume({ name: "data" });
    // A cloud knows a creation that is repeated by its time.
    assert.deepEqual(bench.state.volumes.get("data")?.created, record?.created);
    assert.deepEqual(await bench.eventNames({ type: ["volume"] }), ["volume create"]);
  });

  it("is made what it should be by the next backend", async (context) => {
    const driver = bench.engine.context.driver.volumes;
    context.mock.method(driver, "create", () => Promise.reject(lost()));
    await assert.rejects(bench.volumes.createVolume({ name: "data" }), /the answer was lost/);
    await bench.stopBackend();
    await bench.startBackend();
    assert.deepEqual([await volumes(), [...bench.machine.volumes]], [["data"], ["data"]]);
  });

  for (const force of [false, true]) {
    it(`is taken away by a removal ${force ? "by force" : "that finds no such volume"}`, async (context) => {
      const driver = bench.engine.context.driver.volumes;
      context.mock.method(driver, "create", () => Promise.reject(lost()), { times: 1 });
      await assert.rejects(bench.volumes.createVolume({ name: "data" }), /the answer was lost/);
      assert.equal(phaseOf(), Phase.CREATING);
      bench.machine.volumes.add("data");
      const removed = bench.volumes.removeVolume({ name: "data", force });
      await (force ? removed : assert.rejects(removed, /get data: no such volume/));
      assert.deepEqual([...bench.machine.volumes], []);
      await bench.stopBackend();
      await bench.startBackend();
      assert.deepEqual(await volumes(), []);
      assert.deepEqual(await bench.eventNames({ type: ["volume"] }), []);
    });
  }
});

describe("a backend that is told to end while nobody answers its start", () => {
  it("does so at once, and the next one goes on", async () => {
    // By itself the start would wait for ever.
    await using bench = await EngineBench.start({ cloud: true, clock: new ManualClock(Date.now()) });
    await bench.volumes.createVolume({ name: "data" });
    await bench.stopBackend();
    bench.machine.silence = Promise.withResolvers();
    const ending = new AbortController();
    const started = bench.startBackend(undefined, ending.signal);
    await until(() => bench.machine.unansweredQuestions > 0 || undefined);
    ending.abort();
    await assert.rejects(started, (error) => isErrorKind(error, "unavailable"));
    bench.machine.silence.resolve();
    await bench.startBackend();
    const { volumes } = await bench.volumes.listVolumes({});
    assert.deepEqual(
      volumes.map(({ name }) => name),
      ["data"],
    );
  });
});
