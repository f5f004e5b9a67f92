import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";

import { newId } from "../../common/ids.ts";
import { ManualClock } from "../../common/manual-clock.ts";
import { ContainerRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import { scratchDirectory } from "../../../test/support/scratch.ts";
import { openState } from "./state.ts";

test("who has large records written without a pause writes 16 MiB a second, and keeps small ones from nothing", async () => {
  const state = await openState({ directory: scratchDirectory(), clock: new ManualClock() });
  let isOver = false;
  const putAgain = async (bytes: number): Promise<number[]> => {
    const labels = { long: "x".repeat(bytes) };
    const record = create(ContainerRecordSchema, { id: newId(), config: { labels } });
    const waitsMs: number[] = [];
    while (!isOver) {
      const begunMs = performance.now();
      await state.commit((change) => change.containers.put({ ...record }));
      waitsMs.push(performance.now() - begunMs);
    }
    return waitsMs;
  };
  const flood = Array.from({ length: 20 }, () => putAgain(2 ** 20));
  const [middle, small] = [putAgain(2 ** 15), putAgain(100)];
  setTimeout(() => {
    isOver = true;
  }, 2_000);
  const written = (await Promise.all(flood)).flat().length;
  assert.ok(written >= 20 && written <= 20 + 2 * 32, `${written} MiB`);
  assert.ok((await middle).length > 10, `${(await middle).length} records of 32 KiB`);
  assert.ok((await small).length > 10 * (await middle).length, `${(await small).length} small records`);
  await state.close();
});
