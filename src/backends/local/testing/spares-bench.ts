/** A backend's spares, for unit tests: over a host process and a clock that the test moves. */
import assert from "node:assert/strict";

import { create, type MessageInitShape } from "@bufbuild/protobuf";

import { newId, shortId } from "../../../common/ids.ts";
import { ManualClock } from "../../../common/manual-clock.ts";
import { ContainerRecordSchema, ImageRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { WorkloadSpec } from "../../common/driver/workload-spec.ts";
import { Spares } from "../spares.ts";

/** The parts of a container that a test sets. */
type RecordInit = MessageInitShape<typeof ContainerRecordSchema>;

/** A container on a bridge. */
export const bridged = { imageId: "sha256:1", endpoints: { bridge: {} }, config: {}, hostConfig: {} };
/** The same container with another setting, by a number. */
export const withMemory = (memory: number): RecordInit => ({
  ...bridged,
  hostConfig: { resources: { memory: BigInt(memory) } },
});

/** A backend's spares over a host process that is told of here. */
export function bench() {
  const clock = new ManualClock();
  const asked: WorkloadSpec[] = [];
  const ended: string[] = [];
  const host = {
    answer: (): Promise<void> => Promise.resolve(),
    end: (): Promise<void> => Promise.resolve(),
  };
  const spares = new Spares({
    clock,
    logger: { debug: () => {} },
    prepare: (spec) => {
      asked.push(spec);
      return host.answer();
    },
    end: (id) => {
      ended.push(id);
      return host.end();
    },
  });
  /** As the engine and the driver make a container. */
  const made = (init: RecordInit) => {
    const planned = create(ContainerRecordSchema, init);
    const taken = spares.take(planned);
    const id = taken ?? newId();
    spares.making(id);
    const hostname = planned.config?.hostname || shortId(id);
    const config = { ...planned.config, hostname } as NonNullable<typeof planned.config>;
    return { taken, record: { ...planned, id, config, generation: 1n } };
  };
  /** Begins to launch a container. */
  const launching = (init: RecordInit, more: Partial<WorkloadSpec> = {}) => {
    const { taken, record } = made(init);
    const spec: WorkloadSpec = {
      ...{ record, image: create(ImageRecordSchema), args: ["sleep"], env: ["A=1"], mounts: [] },
      ...{ network: { kind: "none" }, awaitAttachIds: [], ...more },
    };
    const tellUse = spares.launching(spec);
    return { taken, id: spec.record.id, tellUse };
  };
  /** Has a container of this kind start. @returns the ID that it took over; undefined: it has one of its own */
  const run = async (init: RecordInit, more: Partial<WorkloadSpec> = {}) => {
    const { taken, id } = launching(init, more);
    spares.started(id);
    await clock.advance(0); // By then it is prepared, or has failed.
    return taken;
  };
  const twice = async (init: RecordInit) => {
    await run(init);
    await run(init);
  };
  /** IDs that were asked for. */
  const ids = () => asked.map(({ record }) => record.id);
  /** Has as many spares wait as there may be, each of another shape, the first one longest. */
  const full = async () => {
    for (const memory of [1, 2, 3, 4]) {
      await twice(withMemory(memory));
      await clock.advance(1);
    }
    assert.equal(asked.length, 4);
  };
  return { asked, clock, ended, full, host, ids, launching, made, run, spares, twice };
}
