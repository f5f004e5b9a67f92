/** Taking away what a run leaves, behind the answers. */
import type { EngineContext } from "../context.ts";
import type { LiveContainer } from "../live.ts";
import { type Endpoints, releaseAddresses } from "../network/endpoints.ts";

/**
 * Has the driver release the run. `live.released` resolves when that is over; only then are the run's addresses free.
 *
 * @param endpoints as they were during the run
 */
export function releaseRun(context: EngineContext, live: LiveContainer, endpoints: Endpoints): void {
  const before = live.released;
  live.released = context.background.run(`release what container ${live.id} left`, async () => {
    await before;
    try {
      await context.driver.workloads.release(live.id);
    } finally {
      releaseAddresses(context.addresses, endpoints);
    }
  });
}
