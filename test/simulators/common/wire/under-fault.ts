import type { SimulatedClock } from "../clock.ts";
import type { Fault } from "../faults.ts";
import { ConnectionCut } from "./http-endpoint.ts";

/**
 * Does what a call asks for, as far as a fault lets it.
 *
 * @param refusal the cloud's error for one that is injected
 * @throws ConnectionCut; the injected error; what the work throws
 */
export async function underFault<T>(
  fault: Fault | undefined,
  clock: Pick<SimulatedClock, "sleep">,
  refusal: (error: NonNullable<Fault["error"]>) => Error,
  work: () => Promise<T>,
): Promise<T> {
  if (fault?.delayMs !== undefined) {
    await clock.sleep(fault.delayMs);
  }
  await fault?.hold;
  if (fault?.cut === "before") {
    throw new ConnectionCut();
  }
  if (fault?.error !== undefined) {
    throw refusal(fault.error);
  }
  const done = await work();
  if (fault?.cut === "after") {
    throw new ConnectionCut();
  }
  return done;
}
