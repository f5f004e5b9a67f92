/** Readiness of a backend: as it only answers once it serves, these are the parts that can fail later. */
import { messageOf } from "../../../common/errors.ts";
import type { Part } from "../../../common/metrics/serve-metrics.ts";
import { after } from "../../../common/timers.ts";
import type { EngineContext } from "../context.ts";
import { lossWarning } from "../recovery/losses.ts";

/** Time for the platform to answer; the caller waits a little longer. */
const platformLimitMs = 4_000;

/** The state's database, and the platform: the host process, which is called, or the cloud, whose tasks are listed. */
export async function partsOf(context: EngineContext): Promise<readonly Part[]> {
  return [
    { name: "state", problem: context.state.failure ?? lossWarning(context) ?? "" },
    { name: context.driver.name, problem: await platformProblem(context) },
  ];
}

/** How long the answer of a platform that is not at hand counts: whoever may ask asks as often as they like. */
const platformPauseMs = 5_000;
/** How long a query without an answer is waited for before another one is made. */
const silenceMs = 60_000;
const answers = new WeakMap<
  EngineContext,
  { readonly problem: Promise<string>; fromMs: number; countsMs: number }
>();

/** Queries the platform, unless it is being queried or has just answered. @returns its problem; empty if there is none */
function queryPlatform(context: EngineContext): Promise<string> {
  const { driver, clock } = context;
  const known = answers.get(context);
  const ageMs = clock.nowMs() - (known?.fromMs ?? 0); // Negative where the clock was set back.
  if (known !== undefined && ageMs >= 0 && ageMs < known.countsMs) {
    return known.problem;
  }
  const isAtHand = driver.site.kind === "at-hand";
  const query: Promise<unknown> = isAtHand ? driver.workloads.storedServed() : driver.workloads.list();
  const problem = query.then(() => "", messageOf);
  const answer = { problem, fromMs: clock.nowMs(), countsMs: silenceMs };
  answers.set(context, answer);
  void problem.then(() => {
    answer.fromMs = clock.nowMs();
    answer.countsMs = isAtHand ? 0 : platformPauseMs;
  });
  return problem;
}

async function platformProblem(context: EngineContext): Promise<string> {
  const late = Promise.withResolvers<string>();
  using _limit = after(context.clock, platformLimitMs, () =>
    late.resolve(`no answer within ${platformLimitMs / 1000} s`),
  );
  return await Promise.race([queryPlatform(context), late.promise]);
}
