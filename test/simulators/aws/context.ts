/** The context that all simulated services share: one account in one region. */
import type { Iam } from "./iam/iam.ts";
import type { CallLog } from "../common/calls.ts";
import type { SimulatedClock } from "../common/clock.ts";
import type { Faults } from "../common/faults.ts";
import type { Delays, Quotas } from "./quotas.ts";
import type { Rates } from "../common/rates.ts";
import type { Switches } from "./switches.ts";

/** The account, its region and what the test controls. */
export interface Context {
  readonly accountId: string;
  readonly region: string;
  readonly clock: SimulatedClock;
  readonly calls: CallLog;
  readonly faults: Faults;
  readonly rates: Rates;
  readonly quotas: Quotas;
  readonly delays: Delays;
  readonly switches: Switches;
  readonly iam: Iam;
  /** A directory of this simulator's own on this machine; it is removed at the end. */
  readonly directory: string;
}

/** `arn:aws:SERVICE:REGION:ACCOUNT:RESOURCE` */
export function arnOf({ accountId, region }: Context, service: string, resource: string): string {
  return `arn:aws:${service}:${region}:${accountId}:${resource}`;
}
