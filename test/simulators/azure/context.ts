/** The context that all simulated services share: one subscription with one resource group. */
import type { CloudContext } from "../common/simulated-cloud.ts";
import type { Entra } from "./entra/entra.ts";
import type { Delays, Switches } from "./switches.ts";

/** The subscription and what the test controls. */
export interface Context extends CloudContext {
  readonly subscriptionId: string;
  readonly tenantId: string;
  readonly resourceGroup: string;
  /** `westeurope` */
  readonly location: string;
  readonly delays: Delays;
  readonly switches: Switches;
  readonly entra: Entra;
}

/** `/subscriptions/…/resourceGroups/…/providers/TYPE/NAME` */
export function resourceId({ subscriptionId, resourceGroup }: Context, path: string): string {
  return `/subscriptions/${subscriptionId}/resourceGroups/${resourceGroup}/providers/${path}`;
}

/** Whether two resource IDs, or names, are the same: case does not count. */
export function isSame(one: string, other: string): boolean {
  return one.toLowerCase() === other.toLowerCase();
}
