import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";

import { isErrorKind } from "../../../common/errors.ts";
import { ManualClock } from "../../../common/manual-clock.ts";
import { capturedLogger } from "../testing/captured-logger.ts";
import { failedCall, testCloud } from "../testing/cloud.ts";
import { passing } from "../testing/passing.ts";
import { mayBeDone, rideOut } from "./ride-out.ts";
import { StartTimeout } from "./start-limit.ts";
import { StartTries } from "./start-tries.ts";
import { startFailure } from "./task-end.ts";

const down = failedCall("unknown", "down");
const throttled = failedCall("throttled", "rate exceeded");
const denied = failedCall("refused", "denied");

describe("a step of a start", () => {
  let clock: ManualClock;
  let log: ReturnType<typeof capturedLogger>;
  let ending: AbortController;
  let made: number;
  let told: string[];

  beforeEach(() => {
    clock = new ManualClock();
    log = capturedLogger();
    ending = new AbortController();
    made = 0;
    told = [];
  });

  const ride = (...outcomes: (Error | string)[]): Promise<string> =>
    rideOut(
      "container",
      () => {
        const outcome = outcomes[Math.min(made++, outcomes.length - 1)] ?? "";
        return typeof outcome === "string" ? Promise.resolve(outcome) : Promise.reject(outcome);
      },
      { limit: ending, tries: tries(), clock, logger: log.logger },
    );
  const tries = (): StartTries =>
    new StartTries({
      containerId: "container",
      cloud: testCloud(),
      clock,
      logger: log.logger,
      waits: (reason) => void told.push(reason),
      goesOn: () => void told.push("goes on"),
    });

  it("is done again while the cloud fails or is asked too much, however often, and log and start say so once", async () => {
    const wrapped = startFailure(down.message, down);
    const outcomes = [
      ...Array.from({ length: 20 }, () => down),
      wrapped,
      wrapped,
      throttled,
      throttled,
      "task",
    ];
    assert.equal(await passing(clock, ride(...outcomes)), "task");
    assert.equal(made, outcomes.length);
    const said = [down.message, throttled.message];
    assert.deepEqual(
      log.warnings(),
      said.map((each) => `a container waits to be started: ${each}`),
    );
    assert.deepEqual(told, [...said, "goes on"]);
  });

  it("may be done already where nobody knows what the call has done", () => {
    assert.deepEqual([down, throttled, denied].map(mayBeDone), [true, false, false]);
  });

  it("is not done again where the cloud refuses it", async () => {
    await assert.rejects(passing(clock, ride(down, denied)), denied);
    assert.equal(made, 2);
  });

  it("is done again a few times where the cloud refuses it for a reason that passes", async () => {
    const fog = failedCall("refused", "the fog is too thick", "passes");
    assert.equal(await passing(clock, ride(fog, fog, "task")), "task");
    assert.deepEqual(told, [
      "try 2 of 3 in 2 s: the fog is too thick",
      "goes on",
      "try 3 of 3 in 10 s: the fog is too thick",
      "goes on",
    ]);
    made = 0;
    await assert.rejects(passing(clock, ride(fog)), fog);
    assert.equal(made, 3);
  });

  it("ends with what the cloud has said last when the start may not take longer", async () => {
    const riding = ride(down);
    riding.catch(() => {});
    await clock.advance(5_000);
    ending.abort(new StartTimeout(300_000, "nimbus"));
    await assert.rejects(riding, (error: Error) => {
      assert.ok(isErrorKind(error, "system"));
      assert.match(error.message, /within 300 s \(nimbus\.start_timeout\): down$/);
      return true;
    });
  });

  it("ends at once with whoever wanted it", async () => {
    const riding = ride(down);
    riding.catch(() => {});
    await clock.advance(1_000);
    ending.abort(new Error("the backend is shutting down"));
    await assert.rejects(riding, /shutting down/);
  });
});
