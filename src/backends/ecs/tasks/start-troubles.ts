/** Troubles of starts on Fargate that pass; `docs/backends/ecs-settings.md` has the same table. */
import type { StartTrouble } from "../../common/cloud/start-troubles.ts";

/** Words for a connection that did not come about, or broke. */
const lostConnection =
  "(i/o timeout|timed? ?out|timeout|connection reset|connection refused|context (canceled|deadline exceeded)|temporary failure)";

const words = (text: string): RegExp => new RegExp(text.replaceAll("LOST", lostConnection), "is");

/** The rows; the first that fits counts. What no row names, such as an unknown image, is told at once. */
export const startTroubles: readonly StartTrouble[] = [
  {
    name: "vcpu-quota",
    words: words("limit on the number of (vCPUs|tasks)"),
    seen: ["call"],
    again: "room",
    kind: "unavailable",
    told: "the account runs as many vCPUs as its quota allows",
  },
  {
    name: "no-interface",
    words: words("NetworkInterfaceLimitExceeded|InsufficientFreeAddressesInSubnet"),
    seen: ["end"],
    again: "room",
    kind: "unavailable",
    told: "the region's network interfaces or the subnet's addresses are used up",
  },
  {
    name: "capacity",
    words: words("capacity is unavailable|^RESOURCE:|insufficient capacity"),
    seen: ["call", "end"],
    again: { most: 6, firstPauseMs: 5_000 },
    kind: "unavailable",
    told: "AWS has no capacity for it now",
    lacksCapacity: true,
  },
  {
    name: "interface-timeout",
    words: words("timeout waiting for network interface"),
    seen: ["end"],
    again: { most: 4, firstPauseMs: 2_000 },
    kind: "system",
    told: "its task got no network interface in time",
  },
  {
    name: "efs-timeout",
    words: words("EFS utils.*LOST"),
    seen: ["end"],
    again: { most: 4, firstPauseMs: 2_000 },
    kind: "system",
    told: "its file system could not be reached in time",
  },
  {
    name: "pull-timeout",
    words: words("(CannotPullContainer|unable to pull [^:]*registry auth).*LOST"),
    seen: ["end"],
    again: { most: 3, firstPauseMs: 2_000 },
    kind: "system",
    told: "the registry of its image could not be reached in time",
  },
  {
    name: "log-driver",
    words: words("(validate logger args|initialize logging driver|create Cloudwatch log stream).*LOST"),
    seen: ["end"],
    again: { most: 4, firstPauseMs: 2_000 },
    kind: "system",
    told: "CloudWatch could not be reached in time",
  },
  {
    name: "new-security-group",
    words: words("security groups? .*(does|do) not exist|InvalidGroup\\.NotFound"),
    seen: ["call", "end"],
    again: { most: 4, firstPauseMs: 1_000 },
    kind: "system",
    told: "AWS does not know its security group yet",
  },
  {
    name: "service-linked-role",
    words: words("unable to assume the service[- ]linked role"),
    seen: ["call", "end"],
    again: { most: 5, firstPauseMs: 2_000 },
    kind: "system",
    told: "the service-linked role of ECS is being made",
  },
  {
    name: "access-denied",
    words: words("\\((AccessDenied|AccessDeniedException|UnauthorizedOperation)\\)$"),
    seen: ["call"],
    again: { most: 4, firstPauseMs: 1_000 },
    kind: "system",
    told: "AWS does not allow it, or not yet",
  },
  {
    name: "expired-token",
    words: words("\\((ExpiredToken|ExpiredTokenException|RequestExpired)\\)$"),
    seen: ["call"],
    again: { most: 4, firstPauseMs: 1_000 },
    kind: "system",
    told: "its credentials for AWS have expired, and are read again",
  },
];
