import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { describe, it } from "node:test";

import { ManualClock } from "../../../common/manual-clock.ts";
import type { FoundWorkload } from "../../driver/workloads.ts";
import { createSealer } from "../authority/seal.ts";
import { LinesLate } from "../contract/cloud-log.ts";
import { capturedLogger } from "../testing/captured-logger.ts";
import { ReportedEnds } from "./reported-end.ts";
import { withBegin } from "./unrecorded-start.ts";

const containerId = "a".repeat(64);
const { exitKey } = createSealer(Buffer.from("secret"));
const at = new Date("2026-03-01T11:00:00Z");

/** The last line of an agent whose container's run has ended with a code. */
function endLine(code: number, generation = 1n): string {
  const told = `exit generation=${generation} code=${code} oom_killed=false platform_stop=false finished_at=${at.toISOString()}`;
  return `${told} seal=${createHmac("sha256", exitKey(containerId, generation)).update(told).digest("hex")}`;
}

/** A run that is over, as the cloud tells its code, and its agent's lines. */
async function foundBegin(code: number, lines: () => readonly string[]): Promise<readonly unknown[]> {
  async function* agentLines() {
    yield* lines();
  }
  const { logger } = capturedLogger();
  const { signal: abandoned } = new AbortController();
  const ends = new ReportedEnds({
    log: { agentLines },
    exitKey,
    clock: new ManualClock(Date.now()),
    logger,
    abandoned,
  });
  const found: FoundWorkload = {
    ...{ containerId, generation: 1n, agent: undefined, boundPorts: [], execExits: new Map() },
    exit: { code, oomKilled: false, finishedAt: at, error: "" },
  };
  const unlost: unknown[] = [];
  const stored = { forgetLoss: async (...run: unknown[]) => void unlost.push(run) };
  const { begunAt, exit } = await withBegin({ ends, stored }, found);
  assert.deepEqual(
    unlost,
    begunAt === undefined ? [[containerId, 1n]] : [],
    "only what has run has a log to lose",
  );
  return [begunAt !== undefined, exit?.code];
}

describe("a run that is over, and whose start is on no record", () => {
  it("had begun where its agent has left a last line, with the code that it tells", async () => {
    assert.deepEqual(await foundBegin(255, () => [endLine(3)]), [true, 3]);
    assert.deepEqual(await foundBegin(125, () => [endLine(125)]), [true, 125]);
  });

  it("had not begun where there is no such line, and the code is that of an agent that begins nothing", async () => {
    assert.deepEqual(await foundBegin(125, () => []), [false, 125]);
    assert.deepEqual(await foundBegin(125, () => [endLine(0, 2n)]), [false, 125], "of another run");
  });

  it("counts as begun where nobody tells that it had not", async () => {
    assert.deepEqual(await foundBegin(0, () => []), [true, 0]);
    assert.deepEqual(await foundBegin(255, () => []), [true, 255]);
  });

  it("is asked for again while its lines may be late", async () => {
    const late = (): never => {
      throw new LinesLate("lines are late");
    };
    await assert.rejects(foundBegin(255, late), LinesLate);
  });
});
