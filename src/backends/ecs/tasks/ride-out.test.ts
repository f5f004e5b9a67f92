import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";

import { isErrorKind } from "../../../common/errors.ts";
import { ManualClock } from "../../../common/manual-clock.ts";
import { capturedLogger } from "../testing/captured-logger.ts";
import { answered, refusal, unanswered } from "../testing/fake-client.ts";
import { passing } from "../testing/passing.ts";
import { startFailure } from "./reasons.ts";
import { mayBeDone, rideOut } from "./ride-out.ts";
import { StartTimeout } from "./start-limit.ts";

const down = refusal("ecs", "RunTask", "ServerException", "down");
const throttled = refusal("ecs", "RunTask", "ThrottlingException", "rate exceeded");
const unreached = unanswered("ecs", "RunTask", "CredentialsProviderError", "no credentials");
const cut = refusal("ecs", "RunTask", "SyntaxError", "unexpected end", answered);
const denied = refusal("ecs", "RunTask", "AccessDeniedException", "denied");

describe("a step of a start", () => {
  let clock: ManualClock;
  let log: ReturnType<typeof capturedLogger>;
  let ending: AbortController;
  let made: number;

  beforeEach(() => {
    clock = new ManualClock();
    log = capturedLogger();
    ending = new AbortController();
    made = 0;
  });

  const ride = (...outcomes: (Error | string)[]): Promise<string> =>
    rideOut(
      "container",
      () => {
        const outcome = outcomes[Math.min(made++, outcomes.length - 1)] ?? "";
        return typeof outcome === "string" ? Promise.resolve(outcome) : Promise.reject(outcome);
      },
      { limit: ending, clock, logger: log.logger },
    );

  it("is done again while AWS fails or is asked too much, however often, and the log says so once", async () => {
    const wrapped = startFailure(down.message, down);
    const outcomes = [
      ...Array.from({ length: 20 }, () => down),
      wrapped,
      wrapped,
      throttled,
      throttled,
      "arn",
    ];
    assert.equal(await passing(clock, ride(...outcomes)), "arn");
    assert.equal(made, outcomes.length);
    const said = ["ecs: RunTask: down (ServerException)", throttled.message];
    assert.deepEqual(
      log.warnings(),
      said.map((each) => `a container waits to be started: ${each}`),
    );
  });

  it("is done again where nobody answered, or the answer was cut, and may be done already", async () => {
    assert.equal(await passing(clock, ride(unreached, cut, "arn")), "arn");
    assert.deepEqual([unreached, cut, down, throttled, denied].map(mayBeDone), [
      true,
      true,
      true,
      false,
      false,
    ]);
  });

  it("is not done again where AWS refuses it", async () => {
    await assert.rejects(passing(clock, ride(down, denied)), denied);
    assert.equal(made, 2);
  });

  it("ends with what AWS has said last when the start may not take longer", async () => {
    const riding = ride(down);
    riding.catch(() => {});
    await clock.advance(5_000);
    ending.abort(new StartTimeout(300_000));
    await assert.rejects(riding, (error: Error) => {
      assert.ok(isErrorKind(error, "system"));
      assert.match(
        error.message,
        /within 300 s \(ecs\.start_timeout\): ecs: RunTask: down \(ServerException\)$/,
      );
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
