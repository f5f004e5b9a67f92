/** Chooses the network by which a container reaches everything else. Pure. */
import type { Endpoints } from "./endpoints.ts";

/**
 * The address of the default gateway: of the network with the highest priority (`gw-priority`), among equals the first
 * by name, as in Docker 28.
 *
 * @returns undefined where no network leads out: internal ones have no gateway
 */
export function defaultGatewayOf(endpoints: Endpoints): string | undefined {
  const leadingOut = Object.entries(endpoints).filter(([, { gateway }]) => gateway !== "");
  const [first] = leadingOut.sort(([nameA, a], [nameB, b]) => {
    const byPriority = (b.config?.gwPriority ?? 0) - (a.config?.gwPriority ?? 0);
    return byPriority === 0 ? (nameA < nameB ? -1 : 1) : byPriority;
  });
  return first?.[1].gateway;
}
