/** Chooses the network of a container's default route. Pure. */
import type { Endpoints } from "./endpoints.ts";

/**
 * The default gateway: that of the network with the highest priority (`gw-priority`); among equals the first by name,
 * as in Docker 28.
 *
 * @returns undefined if no network has a gateway, such as internal ones
 */
export function defaultGatewayOf(endpoints: Endpoints): string | undefined {
  const leadingOut = Object.entries(endpoints).filter(([, { gateway }]) => gateway !== "");
  const [first] = leadingOut.sort(([nameA, a], [nameB, b]) => {
    const byPriority = (b.config?.gwPriority ?? 0) - (a.config?.gwPriority ?? 0);
    return byPriority === 0 ? (nameA < nameB ? -1 : 1) : byPriority;
  });
  return first?.[1].gateway;
}
