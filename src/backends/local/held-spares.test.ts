import assert from "node:assert/strict";
import { describe, it } from "node:test";
import v8 from "node:v8";
import vm from "node:vm";

import { create } from "@bufbuild/protobuf";

import { ManualClock } from "../../common/manual-clock.ts";
import {
  ContainerRecordSchema,
  ImageRecordSchema,
  NetworkRecordSchema,
} from "../../gen/sockerless/state/v1/state_pb.ts";
import type { WorkloadSpec } from "../common/driver/workload-spec.ts";
import { HeldSpares } from "./held-spares.ts";
import { planOf } from "./spare-shape.ts";

v8.setFlagsFromString("--expose-gc");
const collect = vm.runInNewContext("gc") as () => void;

const secret = "TOKEN=secret";
const launched: WorkloadSpec = {
  record: create(ContainerRecordSchema, {
    ...{ id: "c1", name: secret, generation: 1n, path: secret, args: [secret] },
    hostConfig: {
      ...{ binds: [secret], containerIdFile: secret, networkMode: secret, volumeDriver: secret },
      ...{ volumesFrom: [secret], dns: [secret], dnsOptions: [secret], dnsSearch: [secret], links: [secret] },
      ...{ extraHosts: [secret], storageOpt: { size: secret }, portBindings: [{ hostIp: secret }] },
    },
    ...{ endpoints: { bridge: { ipAddress: secret } }, imageEnvLabels: { a: secret } },
    config: {
      ...{ user: "app", env: [secret], labels: { a: secret }, healthcheck: { test: [secret] } },
      ...{ cmd: { values: [secret] }, entrypoint: { values: [secret] } },
    },
  }),
  image: create(ImageRecordSchema, { diffIds: ["sha256:1"], names: [secret] }),
  ...{ args: [secret], env: [secret], mounts: [], awaitAttachIds: [secret] },
  network: {
    kind: "networks",
    networks: [
      {
        name: "lane",
        record: create(NetworkRecordSchema, { network: { name: "lane", labels: { a: secret } } }),
      },
    ],
  },
  linkedHosts: [{ address: "10.0.0.1", names: [secret] }],
};

/** The spares of a clock, and whether the plans of two of them are still kept. */
async function kept(use: (held: HeldSpares<object>, clock: ManualClock) => Promise<void>) {
  const clock = new ManualClock();
  const held = new HeldSpares<object>(clock);
  const plans: WeakRef<object>[] = [];
  /** In a frame of its own: what this one has is not collected. */
  const add = (): void => {
    const plan = planOf(launched);
    plans.push(new WeakRef(plan));
    held.add(shape, plan);
  };
  add();
  await clock.advance(1000);
  add();
  await use(held, clock);
  await new Promise(setImmediate); // Else they are held until this turn is over.
  collect();
  return { held, kept: plans.map((plan) => plan.deref() !== undefined) };
}

const shape = {};

describe("a spare container", () => {
  it("is prepared from nothing that is one container's, and may be secret", () => {
    const plan = planOf(launched);
    assert.doesNotMatch(
      JSON.stringify(plan, (_, value) => (typeof value === "bigint" ? String(value) : value)),
      /secret/,
    );
    assert.deepEqual([plan.config.user, plan.diffIds], ["app", ["sha256:1"]]);
  });

  it("is known with what it was prepared from as long as it waits", async () => {
    const { held, kept: known } = await kept((_, clock) => clock.advance(28_999));
    assert.deepEqual([known, held.waitingOf(shape).length], [[true, true], 2]);
  });

  it("is forgotten with that when it goes", async () => {
    const first = await kept((_, clock) => clock.advance(29_000));
    assert.deepEqual([first.kept, first.held.waiting.length], [[false, true], 1]);
    const both = await kept((_, clock) => clock.advance(30_000));
    assert.deepEqual([both.kept, both.held.waiting.length], [[false, false], 0]);
  });

  it("is forgotten with that when it goes, though a container has taken it, and when that is launched", async () => {
    const taken: string[] = [];
    const left = await kept(async (held, clock) => {
      taken.push(held.take(shape) ?? assert.fail("none waits"));
      await clock.advance(29_000);
    });
    assert.deepEqual(left.kept, [false, true]);
    assert.deepEqual([left.held.taken(taken[0] ?? "")?.shape, left.held.takenOf(shape)], [shape, 1]);
    const launches = await kept(async (held) => held.settled(held.take(shape) ?? assert.fail("none waits")));
    assert.deepEqual(launches.kept, [false, true]);
  });

  it("is forgotten with that when it goes, though the machine's clock is set meanwhile", async () => {
    const dayMs = 86_400_000;
    for (const setMs of [-30 * dayMs, -1, 30 * dayMs]) {
      const clock = new ManualClock();
      let isSet = false;
      const held = new HeldSpares<object>({
        nowMs: () => clock.nowMs() + (isSet ? setMs : 0),
        sleep: (ms, signal) => clock.sleep(ms, signal),
      });
      const { id } = held.add(shape, planOf(launched));
      const { id: second } = held.add(shape, planOf(launched));
      isSet = true;
      assert.equal(held.take(shape), id);
      await clock.advance(29_999);
      assert.deepEqual(
        [held.waiting.map((each) => each.id), "plan" in (held.taken(id) ?? {})],
        [[second], true],
      );
      await clock.advance(1);
      assert.deepEqual(
        [held.waiting.length, "plan" in (held.taken(id) ?? {}), clock.sleeping],
        [0, false, 0],
      );
    }
  });

  it("is forgotten with that when it is given up, and when all end", async () => {
    const one = await kept(async (held) => held.remove(held.waiting[0]?.id ?? assert.fail("none waits")));
    assert.deepEqual(one.kept, [false, true]);
    const all = await kept(async (held, clock) => {
      held.close();
      await clock.advance(0);
      assert.equal(clock.sleeping, 0);
    });
    assert.deepEqual(all.kept, [false, false]);
  });
});
