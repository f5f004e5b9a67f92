/** Taking away what a run leaves, behind the answers. */
import type { EngineContext } from "../context.ts";
import type { LiveContainer } from "../live.ts";
import { type Endpoints, releaseAddresses } from "../network/endpoints.ts";
import { hasProcess, withState } from "../records.ts";

/**
 * Has the driver release the run. `live.released` resolves when that is over; only then are the run's addresses free.
 *
 * @param endpoints as they were during the run
 */
export function releaseRun(context: EngineContext, live: LiveContainer, endpoints: Endpoints): void {
  const before = live.released;
  const generation = context.state.containers.get(live.id)?.generation;
  live.released = context.background.run(`release what container ${live.id} left`, async () => {
    await before;
    try {
      await context.driver.workloads.release(live.id);
      await tellInterruption(context, live, generation);
    } finally {
      releaseAddresses(context.addresses, endpoints);
    }
  });
}

/** Puts what ended a run from outside into the record of its end. */
async function tellInterruption(
  context: EngineContext,
  live: LiveContainer,
  generation: bigint | undefined,
): Promise<void> {
  const error = context.driver.workloads.interruptionOf?.(live.id) ?? "";
  const record = context.state.containers.get(live.id);
  if (error === "" || record === undefined || record.generation !== generation || hasProcess(record)) {
    return;
  }
  await context.state.commit((change) => change.containers.put(withState(record, { error })));
}
