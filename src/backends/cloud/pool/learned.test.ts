import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";

import { ManualClock } from "../../../common/manual-clock.ts";
import {
  NetworkRecordSchema,
  type PoolRecord,
  PoolRecordSchema,
  TaskPhase,
  type TaskRecord,
  TaskRecordSchema,
  VolumeRecordSchema,
} from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { ResolvedMount } from "../../driver/workload-spec.ts";
import type { State } from "../../state/state.ts";
import { capturedLogger } from "../testing/captured-logger.ts";
import { workloadSpec } from "../testing/workload-spec.ts";
import { LearnedPool } from "./learned.ts";

const dayMs = 24 * 60 * 60_000;

/** A learned pool over a state and a book in memory. */
function setUp(isMadeWith = { networks: true, anonymousVolumes: false }) {
  const clock = new ManualClock();
  const kept = new Map<string, PoolRecord>();
  const tasks = new Map<string, TaskRecord>();
  const commit = async (describe: (change: object) => void): Promise<void> =>
    describe({
      pool: {
        put: (record: PoolRecord) => void kept.set(record.id, record),
        delete: (id: string) => void kept.delete(id),
      },
    });
  const open = () =>
    new LearnedPool({
      state: { pool: kept, commit } as unknown as State,
      book: { of: (id) => tasks.get(id) },
      prepared: { isMadeWith, shapeOf: (request) => request },
      perDay: 10,
      costOf: () => 1,
      clock,
      logger: capturedLogger().logger,
    });
  const run = async (pool: LearnedPool, id: string, image: string, request: string): Promise<void> => {
    const task = { containerId: id, generation: 1n, phase: TaskPhase.SERVING };
    tasks.set(id, create(TaskRecordSchema, task));
    pool.started(workloadSpec({ id, config: { image } }), request);
    await clock.advance(60_000);
    tasks.delete(id);
    await pool.wanted();
    await clock.advance(60_000);
    await pool.wanted();
  };
  return { clock, kept, open, run };
}

describe("a learned pool", () => {
  it("keeps bursts and the last request of each kind, and nothing else of containers", async () => {
    const { kept, open, run } = setUp();
    const pool = open();
    await run(pool, "a", "node", "digest 1");
    await run(pool, "b", "node", "digest 2");
    const bursts = [...kept.values()].filter(({ burst }) => burst !== undefined);
    assert.deepEqual(
      bursts.map(({ burst }) => burst?.counts),
      [{ node: 1 }, { node: 1 }],
    );
    assert.equal(kept.get("kind node")?.kind?.request, "digest 2");
    assert.equal(kept.size, 3);
  });

  it("prepares the last request of a kind after a restart, until the cloud refuses it, and again after a start", async () => {
    const { open, run } = setUp();
    const first = open();
    for (let round = 0; round < 20; round++) {
      await run(first, `first ${round}`, "node", round < 10 ? "digest 1" : "digest 2");
    }
    const pool = open();
    const requests = async () => (await pool.wanted()).map(({ request }) => request);
    await run(pool, "next", "node", "digest 2");
    assert.deepEqual(await requests(), ["digest 2"]);
    pool.refused("digest 2");
    assert.deepEqual(await requests(), []);
    await run(pool, "another", "node", "digest 2");
    assert.deepEqual(await requests(), ["digest 2"]);
  });

  it("calls containers with networks and anonymous volumes of their own one kind where tasks are not made with them", () => {
    const kindsWith = (isMadeWith: Parameters<typeof setUp>[0]): string[] => {
      const { kept, open } = setUp(isMadeWith);
      const pool = open();
      for (const id of ["a", "b", "a", "b"]) {
        const record = create(NetworkRecordSchema);
        const volumes = [
          { destination: "/data", volume: { name: `anonymous-${id}`, anonymous: true } },
          { destination: "/cache", volume: { name: "cache", anonymous: false } },
        ];
        const fields: Parameters<typeof workloadSpec>[1] = {
          network: { kind: "networks", networks: [{ name: `net-${id}`, record }] },
          mounts: volumes.map(({ destination, volume }) => ({
            ...{ type: "volume", destination, readOnly: false },
            volume: create(VolumeRecordSchema, volume),
          })),
        };
        pool.started(workloadSpec({ id, config: { image: "postgres" } }, fields), "digest 1");
      }
      return [...kept.values()].flatMap(({ kind }) => kind?.kind ?? []);
    };
    assert.deepEqual(kindsWith({ networks: false, anonymousVolumes: false }), [
      "postgres volume::/data volume:cache:/cache",
    ]);
    assert.deepEqual(kindsWith({ networks: true, anonymousVolumes: false }), [
      "postgres network=net-a volume::/data volume:cache:/cache",
      "postgres network=net-b volume::/data volume:cache:/cache",
    ]);
    assert.deepEqual(kindsWith({ networks: false, anonymousVolumes: true }), [
      "postgres volume:anonymous-a:/data volume:cache:/cache",
      "postgres volume:anonymous-b:/data volume:cache:/cache",
    ]);
  });

  it("remembers little of containers with large mounts, networks of their own and large requests", () => {
    const { kept, open } = setUp();
    const pool = open();
    const bytes = (): number =>
      [...kept.values()].reduce((sum, record) => sum + toBinary(PoolRecordSchema, record).length, 0);
    const mounts = Array.from({ length: 250 }, (_, index) => ({
      ...{ type: "volume", destination: `/${"d".repeat(4_000)}${index}`, readOnly: false },
      volume: create(VolumeRecordSchema, { anonymous: true }),
    })) as ResolvedMount[];
    for (let index = 0; index < 100; index++) {
      const said = { id: `a${index}`, config: { image: `image${index}` } };
      pool.started(workloadSpec(said, { mounts: mounts.slice(0, 150 + index) }), `digest ${index}`);
    }
    assert.ok(bytes() < 100_000, `${bytes()} bytes`);
    assert.equal(kept.size, 100);
    pool.started(workloadSpec({ id: "b", config: { image: "large" } }), "r".repeat(65_537));
    const network = { kind: "networks", networks: [{ name: "own", record: create(NetworkRecordSchema) }] };
    pool.started(workloadSpec({ id: "c" }, { network } as Parameters<typeof workloadSpec>[1]), "digest");
    assert.equal(kept.size, 100);
    for (let index = 0; index < 1_000; index++) {
      pool.started(workloadSpec({ id: `d${index}`, config: { image: `many${index}` } }), "digest");
    }
    assert.equal(kept.size, 1_000);
    assert.ok(kept.has("kind many999"));
  });

  it("remembers the last ten thousand bursts", async () => {
    const { clock, kept, open } = setUp();
    for (let index = 0; index < 10_050; index++) {
      const beganAt = timestampFromMs(clock.nowMs() - index * 50_000);
      const id = `burst ${index}`;
      kept.set(id, create(PoolRecordSchema, { id, burst: { beganAt, counts: { node: 1 } } }));
    }
    await open().wanted();
    assert.ok(kept.size <= 10_000 && kept.size > 9_000, `${kept.size} bursts`);
    assert.ok(kept.has("burst 0"));
  });

  it("forgets after a week", async () => {
    const { clock, kept, open, run } = setUp();
    const pool = open();
    await run(pool, "a", "node", "digest 1");
    await clock.advance(8 * dayMs);
    await pool.wanted();
    assert.equal(kept.size, 0);
  });
});
