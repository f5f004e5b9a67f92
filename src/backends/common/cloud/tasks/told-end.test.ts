import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { ManualClock } from "../../../../common/manual-clock.ts";
import { TaskRecordSchema } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import { createSealer } from "../seal.ts";
import { capturedLogger } from "../testing/captured-logger.ts";
import { failedCall } from "../testing/cloud.ts";
import { exitOfLine, ToldEnds } from "./told-end.ts";

const { exitKey } = createSealer(Buffer.from("secret"));
const id = "c".repeat(64);
const key = exitKey(id, 2n);
const nowMs = Date.parse("2026-03-01T12:00:00Z");

/** The line as the agent of container `id` writes it for its second run. */
function sealed(
  fields = "code=0 oom_killed=false platform_stop=false",
  at = "2026-03-01T11:00:00.5Z",
): string {
  const told = `exit generation=2 ${fields} finished_at=${at}`;
  return `${told} seal=${createHmac("sha256", key).update(told).digest("hex")}`;
}

describe("the line of a run's end", () => {
  it("tells what its agent saw", () => {
    assert.deepEqual(exitOfLine(key, sealed("code=137 oom_killed=true platform_stop=false"), nowMs), {
      code: 137,
      oomKilled: true,
      finishedAt: new Date("2026-03-01T11:00:00.500Z"),
    });
  });

  it("is not believed of another container or run, changed, or with no seal of the instance", () => {
    for (const other of [
      exitKey("d".repeat(64), 2n),
      exitKey(id, 1n),
      exitKey(id, 22n),
      createSealer(Buffer.from("other")).exitKey(id, 2n),
      new Uint8Array(),
    ]) {
      assert.equal(exitOfLine(other, sealed(), nowMs), undefined);
    }
    const good = sealed("code=7 oom_killed=false platform_stop=false");
    for (const forged of [
      good.replace("code=7", "code=0"),
      good.replace(/seal=.*/, "seal="),
      good.replace(/ seal=.*/, ""),
      good.replace(/[0-9a-f]$/, (digit) => (digit === "0" ? "1" : "0")),
      `${good} and more`,
      "",
    ]) {
      assert.equal(exitOfLine(key, forged, nowMs), undefined, forged);
    }
  });

  it("of a run that its platform stopped is no success", () => {
    const exit = exitOfLine(key, sealed("code=0 oom_killed=false platform_stop=true"), nowMs);
    assert.equal(exit?.code, 255);
    assert.match(exit?.error ?? "", /stopped by its platform/);
  });

  it("tells no time that is none, or is still to come", () => {
    for (const at of ["2999-01-01T00:00:00Z", "1900-01-01T00:00:00Z", "never"]) {
      assert.deepEqual(exitOfLine(key, sealed(undefined, at), nowMs)?.finishedAt, new Date(nowMs), at);
    }
  });
});

describe("an end that is looked for in the cloud's log", () => {
  function lookIn(lines: readonly (string | Error)[]) {
    const { logger, warnings } = capturedLogger();
    const clock = new ManualClock();
    let looks = 0;
    async function* agentLines(): AsyncGenerator<string> {
      looks += 1;
      for (const each of lines) {
        if (each instanceof Error) {
          throw each;
        }
        yield each;
      }
    }
    const { signal: abandoned } = new AbortController();
    const ends = new ToldEnds({ log: { agentLines }, exitKey, clock, logger, abandoned });
    const record = create(TaskRecordSchema, { containerId: id, generation: 2n });
    return { look: () => ends.of(record), looks: () => looks, warnings, clock };
  }

  it("is found among other lines of the agent, and is none where there is no such line", async () => {
    const { look } = lookIn(["level=INFO msg=stop", "exit generation=2 seal=00", sealed()]);
    assert.equal((await look())?.code, 0);
    assert.equal(await lookIn(["level=INFO msg=stop"]).look(), undefined);
  });

  it("is not known to be none while the cloud does not answer", async () => {
    const { look, clock } = lookIn([failedCall("unknown", "lost")]);
    for (let minutes = 0; minutes < 3; minutes++) {
      await assert.rejects(look(), /lost/);
      await clock.advance(60_000);
    }
  });

  it("is not known to be none while the cloud refuses to show it, for a minute", async () => {
    const lines: (string | Error)[] = [failedCall("refused", "you may not")];
    const { look, warnings, clock } = lookIn(lines);
    await assert.rejects(look(), /you may not/);
    await clock.advance(59_000);
    await assert.rejects(look(), /you may not/);
    await clock.advance(1_000);
    assert.equal(await look(), undefined);
    assert.match(warnings().join(), /cannot be read from the cloud's log: you may not/);
    assert.equal(await look(), undefined, "it is the last word for whoever looks next, too");
    lines[0] = sealed();
    assert.equal((await look())?.code, 0);
    lines[0] = failedCall("refused", "you may not again");
    await clock.advance(59_000);
    await assert.rejects(look(), /again/, "since it was shown, a refusal has a minute again");
  });

  it("is looked for once by all who ask at the same time", async () => {
    const lines = [sealed()];
    const { look, looks } = lookIn(lines);
    const [first, second] = await Promise.all([look(), look()]);
    assert.deepEqual([first?.code, second?.code, looks()], [0, 0, 1]);
    await look();
    assert.equal(looks(), 2);
  });
});
