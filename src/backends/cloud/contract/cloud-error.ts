/** Failed calls of a cloud, classified by their consequences, which are the same in all clouds. */
import { SockerlessError } from "../../../common/errors.ts";
import { isLastingCode, type Prospect } from "./start-prospect.ts";

/**
 * The effect of a failed call: none, also if repeated (`refused`); none, because of too many calls (`throttled`); or
 * unknown, as when its answer was lost (`unknown`).
 */
export type CallOutcome = "refused" | "throttled" | "unknown";

/** A call that a cloud refused, or that did not reach it. The message names the call and includes the cloud's text. */
export abstract class CloudError extends SockerlessError {
  abstract readonly outcome: CallOutcome;

  /** Whether the caller lacks the permission, perhaps only not yet. */
  get isDenied(): boolean {
    return false;
  }

  /** How a start continues after this refusal. */
  get prospect(): Prospect {
    return this.isDenied ? "denied" : "passes";
  }

  /** Whether a code means that the same request will be refused again. That of a throttled call never does. */
  protected hasLastingCode(code: string): boolean {
    return this.outcome !== "throttled" && isLastingCode(code);
  }
}

/** Whether the cloud refused the call, as it would again. */
export function isRefusal(error: unknown): error is CloudError {
  return error instanceof CloudError && error.outcome === "refused";
}

/** Whether the cloud throttled the call. */
export function isThrottled(error: unknown): boolean {
  return error instanceof CloudError && error.outcome === "throttled";
}

/** Whether a failed call certainly had no effect. */
export function isUndone(error: unknown): boolean {
  return error instanceof CloudError && error.outcome !== "unknown";
}

/** Node's error codes of lost connections, after which the same call may soon succeed. */
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
