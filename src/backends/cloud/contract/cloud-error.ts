/** Failures of calls of a cloud, as far as what follows them is the same in all clouds. */
import { SockerlessError } from "../../../common/errors.ts";
import type { Prospect } from "./start-prospect.ts";

/**
 * The effect of a failed call: none, and none if it is made again (`refused`); none, because there were too
 * many calls (`throttled`); or not known, as where its answer was lost (`unknown`).
 */
export type CallOutcome = "refused" | "throttled" | "unknown";

/** A call that a cloud refused, or that did not reach it. The message names the call and keeps the cloud's own text. */
export abstract class CloudError extends SockerlessError {
  abstract readonly outcome: CallOutcome;

  /** Whether the cloud has refused it because the caller has no right to it, or none yet. */
  get isDenied(): boolean {
    return false;
  }

  /** How a start goes on that the cloud has refused so. */
  get prospect(): Prospect {
    return this.isDenied ? "denied" : "passes";
  }
}

/** Whether a cloud has answered that it does not do it: asked again, it says so again. */
export function isRefusal(error: unknown): error is CloudError {
  return error instanceof CloudError && error.outcome === "refused";
}

/** Whether a cloud asks to be called less often. */
export function isThrottled(error: unknown): boolean {
  return error instanceof CloudError && error.outcome === "throttled";
}

/** Whether a call that failed has certainly done nothing. */
export function isUndone(error: unknown): boolean {
  return error instanceof CloudError && error.outcome !== "unknown";
}

/** Node's errnos after which the same call may well succeed in a moment: the way to the cloud was lost. */
export const transientErrnos: ReadonlySet<string> = new Set([
  "EAI_AGAIN",
  "ECONNABORTED",
  "ECONNREFUSED",
  "ECONNRESET",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOTFOUND", // The answer of a resolver that has lost its upstream.
  "EPIPE",
  "ETIMEDOUT",
]);
