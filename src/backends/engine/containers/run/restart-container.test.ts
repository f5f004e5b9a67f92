import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";

import { create } from "@bufbuild/protobuf";

import { newId } from "../../../../common/ids.ts";
import { ContainerRecordSchema } from "../../../../gen/sockerless/state/v1/state_pb.ts";

import type { EngineContext } from "../../context.ts";
import { finishRestart } from "./restart-container.ts";

describe("a restart that an earlier process of the backend began", () => {
  for (const isDone of [true, false]) {
    const outcome = isDone
      ? "is not made again if its agent serves a later start"
      : "is finished once its agent has said which start it serves";
    it(outcome, async () => {
      const known = create(ContainerRecordSchema, { id: newId(), generation: 1n, restartToken: "began" });
      const containers = new Map([[known.id, known]]);
      const link = { greeting: Promise.withResolvers<void>(), ended: new AbortController() };
      const restarting = new Error("it is restarted");
      let isFirst = true;
      const live = {
        of() {
          if (isFirst) {
            isFirst = false;
            return { link };
          }
          throw restarting;
        },
      };
      const works: Promise<unknown>[] = [];
      const background = { run: (_what: string, work: () => Promise<void>) => works.push(work()) };
      finishRestart({ state: { containers }, live, background } as unknown as EngineContext, known);
      await nextTurn();
      if (isDone) {
        containers.set(known.id, create(ContainerRecordSchema, { id: known.id, generation: 2n }));
      }
      link.greeting.resolve();
      const [ended] = await Promise.allSettled(works);
      assert.deepEqual(
        ended,
        isDone ? { status: "fulfilled", value: undefined } : { status: "rejected", reason: restarting },
      );
    });
  }
});
