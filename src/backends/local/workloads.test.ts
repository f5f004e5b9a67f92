import assert from "node:assert/strict";
import { it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { systemClock } from "../../common/clock.ts";
import { ContainerRecordSchema, ImageRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { WorkloadSpec } from "../common/driver/workload-spec.ts";
import { Spares } from "./spares.ts";
import { type LocalWorkloadsOptions, localWorkloads } from "./workloads.ts";

it("the host process is asked to remove a container only once nothing is prepared under its ID, and to create it at once", async () => {
  for (const call of ["createContainer", "removeContainer"]) {
    const preparing = Promise.withResolvers<void>();
    const called: string[] = [];
    const host = { [call]: async () => void called.push(call) };
    const spares = new Spares({
      clock: systemClock,
      logger: { debug: () => {} },
      prepare: () => preparing.promise,
      end: () => Promise.resolve(),
    });
    const planned = create(ContainerRecordSchema, { config: {}, hostConfig: {} });
    const specOf = (id: string): WorkloadSpec => ({
      ...{ record: { ...planned, id, generation: 1n }, image: create(ImageRecordSchema), args: [], env: [] },
      ...{ mounts: [], network: { kind: "none" }, awaitAttachIds: [] },
    });
    for (const id of ["first", "second"]) {
      spares.launching(specOf(id));
      spares.started(id);
    }
    const id = spares.take(planned) ?? assert.fail("none is prepared");
    const workloads = localWorkloads({ host, spares } as unknown as LocalWorkloadsOptions);
    const done = call === "createContainer" ? workloads.create(specOf(id)) : workloads.remove(id);
    await new Promise(setImmediate);
    assert.deepEqual(called, call === "createContainer" ? [call] : []);
    preparing.resolve();
    await done;
    assert.deepEqual(called, [call]);
    await spares.close();
  }
});
