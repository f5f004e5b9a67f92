/** Lacks, and delays of AWS's own, that have no code: `ClientException`, `InvalidParameterException` and ends of tasks are text. */
import type { Prospect } from "../../cloud/contract/start-prospect.ts";

const room =
  /limit on the number of (vCPUs|tasks)|NetworkInterfaceLimitExceeded|InsufficientFreeAddressesInSubnet/i;
const capacity = /capacity is unavailable|^RESOURCE:|insufficient capacity/i;
/** A security group, and the role that ECS makes at an account's first task, are not known everywhere at once. */
const justMade =
  /security groups? .*(does|do) not exist|InvalidGroup\.NotFound|unable to assume the service[- ]linked role/is;

/** How a start goes on after these words; undefined: they do not say. */
export function prospectOfWords(words: string): Prospect | undefined {
  return room.test(words)
    ? "room"
    : capacity.test(words)
      ? "capacity"
      : justMade.test(words)
        ? "passes"
        : undefined;
}
