/** Troubles of starts on Container Apps that pass; `docs/backends/aca.md` has the same table. */
import type { StartTrouble } from "../../common/cloud/start-troubles.ts";

/** The rows; the first that fits counts. What no row names, such as an unknown image, is told at once. */
export const startTroubles: readonly StartTrouble[] = [
  {
    name: "core-quota",
    words: /maximum allowed cores|(cores?|cpu)\b.*\bquota|quota\b.*\b(cores?|cpu)\b|MaxNumberOfJobs/i,
    seen: ["call"],
    again: "room",
    kind: "unavailable",
    told: "the environment uses as many processors as its quota allows",
  },
  {
    name: "authorization",
    words: /\((AuthorizationFailed|LinkedAuthorizationFailed)\)$/,
    seen: ["call"],
    again: { most: 6, firstPauseMs: 1_000 },
    kind: "system",
    told: "Azure does not allow it, or not yet: a role that was just assigned takes minutes to hold everywhere",
  },
  {
    name: "conflict",
    words:
      /\((Conflict|OperationInProgress|AnotherOperationInProgress|ContainerAppOperationInProgress|JobOperationInProgress|ManagedEnvironmentNotProvisioned|EnvironmentNotReady|AuthorizationPermissionMismatch)\)$/,
    seen: ["call"],
    again: { most: 5, firstPauseMs: 1_000 },
    kind: "system",
    told: "Azure is still at another operation",
  },
  {
    name: "new-job",
    words: /^Jobs_(CreateOrUpdate|Start): .*\((ResourceNotFound|JobNotFound)\)$/s,
    seen: ["call"],
    again: { most: 4, firstPauseMs: 1_000 },
    kind: "system",
    told: "Azure does not know its job yet",
  },
  {
    name: "registry-timeout",
    words:
      /template\.containers.*(i\/o timeout|timed? ?out|connection (reset|refused)|EOF|TOOMANYREQUESTS)/is,
    seen: ["call"],
    again: { most: 3, firstPauseMs: 2_000 },
    kind: "system",
    told: "the registry of its image could not be reached in time",
  },
  {
    name: "identity",
    words: /identity.*(not (yet )?(found|assigned|available)|does not exist)/is,
    seen: ["call"],
    again: { most: 4, firstPauseMs: 2_000 },
    kind: "system",
    told: "Azure does not know its identity yet",
  },
];
