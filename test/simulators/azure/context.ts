/** The context that all simulated services share: one subscription with one resource group. */
import type { CallLog } from "../common/calls.ts";
import type { SimulatedClock } from "../common/clock.ts";
import type { Faults } from "../common/faults.ts";
import type { Rates } from "../common/rates.ts";
import type { Entra } from "./entra/entra.ts";
import type { Delays, Switches } from "./switches.ts";

/** The subscription and what the test controls. */
export interface Context {
  readonly subscriptionId: string;
  readonly tenantId: string;
  readonly resourceGroup: string;
  /** `westeurope` */
  readonly location: string;
  readonly clock: SimulatedClock;
  readonly calls: CallLog;
  readonly faults: Faults;
  readonly rates: Rates;
  readonly delays: Delays;
  readonly switches: Switches;
  readonly entra: Entra;
  /** A directory of this simulator's own on this machine; it is removed at the end. */
  readonly directory: string;
}

/** `/subscriptions/…/resourceGroups/…/providers/TYPE/NAME` */
export function resourceId({ subscriptionId, resourceGroup }: Context, path: string): string {
  return `/subscriptions/${subscriptionId}/resourceGroups/${resourceGroup}/providers/${path}`;
}

/** Whether two resource IDs, or names, are the same: case does not count. */
export function isSame(one: string, other: string): boolean {
  return one.toLowerCase() === other.toLowerCase();
}
