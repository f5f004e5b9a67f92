import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { ManualClock } from "../../../common/manual-clock.ts";
import { TaskRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { createSealer } from "../authority/seal.ts";
import { capturedLogger } from "../testing/captured-logger.ts";
import { unlessAborted } from "../../concurrency/unless-aborted.ts";
import { LinesLate } from "../contract/cloud-log.ts";
import { failedCall } from "../testing/cloud.ts";
import { exitOfLine, ReportedEnds } from "./reported-end.ts";

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
    async function* agentLines(_id: string, signal: AbortSignal): AsyncGenerator<string> {
      looks += 1;
      for (const each of lines) {
        if (each === "hang") {
          await unlessAborted(signal, new Promise(() => {}));
        }
        if (each instanceof Error) {
          throw each;
        }
        yield each;
      }
    }
    const { signal: abandoned } = new AbortController();
    const ends = new ReportedEnds({ log: { agentLines }, exitKey, clock, logger, abandoned });
    const record = create(TaskRecordSchema, { containerId: id, generation: 2n });
    return { look: () => ends.of(record), looks: () => looks, warnings, clock };
  }

  it("is found among other lines of the agent, and is none where there is no such line", async () => {
    const { look } = lookIn(["level=INFO msg=stop", "exit generation=2 seal=00", sealed()]);
    assert.equal((await look()).exit?.code, 0);
    assert.deepEqual(await lookIn(["level=INFO msg=stop"]).look(), { exit: undefined, untold: "" });
  });

  for (const outcome of ["refused", "unknown", "throttled"] as const) {
    it(`is given up where the log cannot be read for a minute (${outcome}), and says why`, async () => {
      const lines: (string | Error)[] = [failedCall(outcome, "not now")];
      const { look, warnings, clock } = lookIn(lines);
      await assert.rejects(look(), /not now/);
      await clock.advance(59_000);
      await assert.rejects(look(), /not now/);
      await clock.advance(1_000);
      assert.deepEqual(await look(), { exit: undefined, untold: "not now" });
      assert.match(warnings().join(), /cannot be read from the cloud's log: not now/);
      assert.equal((await look()).untold, "not now", "it is the last word for whoever looks next, too");
      await clock.advance(600_000);
      await assert.rejects(look(), /not now/, "nobody has looked for so long that it is forgotten");
      lines[0] = sealed();
      assert.equal((await look()).exit?.code, 0);
      lines[0] = failedCall(outcome, "not again");
      await clock.advance(59_000);
      await assert.rejects(look(), /again/, "since it was shown, a failure has a minute again");
    });
  }

  it("is waited for as long as the log says that it may yet come", async () => {
    const lines: (string | Error)[] = [new LinesLate("it may still come")];
    const { look, clock } = lookIn(lines);
    for (let minutes = 0; minutes < 3; minutes++) {
      await assert.rejects(look(), /may still come/);
      await clock.advance(60_000);
    }
    lines[0] = sealed();
    assert.equal((await look()).exit?.code, 0);
  });

  it("is not waited for where the log hangs", async () => {
    const { look, clock } = lookIn(["hang"]);
    for (const seconds of [20, 40]) {
      const looked = look();
      const failed = assert.rejects(looked, /has not answered within 20 s/, `before ${seconds} s`);
      await clock.advance(20_000);
      await failed;
    }
    const last = look();
    await clock.advance(20_000);
    assert.match((await last).untold, /has not answered within 20 s/);
  });

  it("is looked for once by all who ask at the same time", async () => {
    const lines = [sealed()];
    const { look, looks } = lookIn(lines);
    const [first, second] = await Promise.all([look(), look()]);
    assert.deepEqual([first.exit?.code, second.exit?.code, looks()], [0, 0, 1]);
    await look();
    assert.equal(looks(), 2);
  });
});
