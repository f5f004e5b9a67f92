/** Readiness of a backend: as it only answers once it serves, these are the parts that can fail later. */
import { messageOf } from "../../../common/errors.ts";
import { after } from "../../../common/timers.ts";
import type { EngineContext } from "../context.ts";
import { lossWarning } from "../recovery/losses.ts";

/** Time for the platform to answer; the caller waits a little longer. */
const platformLimitMs = 4_000;

/** A part, and why it is not ready; empty if it is. */
export interface PartState {
  readonly name: string;
  readonly problem: string;
}

/** The state's database, and the platform (the host process, or the cloud), which is queried for its containers. */
export async function partsOf(context: EngineContext): Promise<readonly PartState[]> {
  return [
    { name: "state", problem: context.state.failure ?? lossWarning(context) ?? "" },
    { name: context.driver.name, problem: await platformProblem(context) },
  ];
}

async function platformProblem({ driver, clock }: EngineContext): Promise<string> {
  const late = Promise.withResolvers<string>();
  using _limit = after(clock, platformLimitMs, () =>
    late.resolve(`no answer within ${platformLimitMs / 1000} s`),
  );
  const answer = driver.workloads.list().then(() => "", messageOf);
  return await Promise.race([answer, late.promise]);
}
