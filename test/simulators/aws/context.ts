/** The context that all simulated services share: one account in one region. */
import type { Iam } from "./iam/iam.ts";
import type { CloudContext } from "../common/simulated-cloud.ts";
import type { Delays, Quotas } from "./quotas.ts";
import type { Switches } from "./switches.ts";

/** The account, its region and what the test controls. */
export interface Context extends CloudContext {
  readonly accountId: string;
  readonly region: string;
  readonly quotas: Quotas;
  readonly delays: Delays;
  readonly switches: Switches;
  readonly iam: Iam;
}

/** `arn:aws:SERVICE:REGION:ACCOUNT:RESOURCE` */
export function arnOf({ accountId, region }: Context, service: string, resource: string): string {
  return `arn:aws:${service}:${region}:${accountId}:${resource}`;
}
