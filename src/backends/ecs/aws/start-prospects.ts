/**
 * Failures without codes of their own, known by their text: lack of capacity or quota, and AWS's own delays
 * (`ClientException`, `InvalidParameterException`, ends of tasks).
 */
import type { Prospect } from "../../cloud/contract/start-prospect.ts";

const room =
  /limit on the number of (vCPUs|tasks)|NetworkInterfaceLimitExceeded|InsufficientFreeAddressesInSubnet/i;
const capacity = /capacity is unavailable|^RESOURCE:|insufficient capacity/i;
/**
 * A new security group, and the role that ECS creates with an account's first task, are not known everywhere at once.
 */
const justMade =
  /security groups? .*(does|do) not exist|InvalidGroup\.NotFound|unable to assume the service[- ]linked role/is;

/** How a start continues after a failure with these words; undefined if they do not tell. */
export function prospectOfWords(words: string): Prospect | undefined {
  return room.test(words)
    ? "room"
    : capacity.test(words)
      ? "capacity"
      : justMade.test(words)
        ? "passes"
        : undefined;
}
