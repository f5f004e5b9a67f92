/** Errors of the API server, converted once, where a call's answer comes in. */
import { ApiException } from "@kubernetes/client-node";

import { type ErrorKind, errnoOf, messageOf } from "../../../common/errors.ts";
import { type CallOutcome, CloudError } from "../../cloud/contract/cloud-error.ts";
import type { Prospect } from "../../cloud/contract/start-prospect.ts";

/**
 * A call that the API server refused, or that did not reach it. The message names the call and keeps the server's own text;
 * decide by `status` and `reason`, never by the text.
 */
export class KubernetesError extends CloudError {
  /** HTTP status; 0 where nobody answered. */
  readonly status: number;
  /** The reason as Kubernetes names it (`AlreadyExists`), or Node's errno where nobody answered. */
  readonly reason: string;
  readonly outcome: CallOutcome;
  /** Seconds after which the server wants to be asked again; undefined: it has not said. */
  readonly retryAfterS: number | undefined;

  constructor(call: string, error: unknown) {
    const status = error instanceof ApiException ? error.code : statusOfUpgrade(error);
    const told = error instanceof ApiException ? statusIn(error.body) : {};
    const reason = told.reason || (status > 0 ? `HTTP ${status}` : errnoIn(error));
    const words = told.message || (error instanceof ApiException ? reason : messageOf(causeOf(error)));
    super(kindOf(status), `${call}: ${words}`, error);
    this.status = status;
    this.reason = reason;
    this.outcome = outcomeOf(status);
    this.retryAfterS = error instanceof ApiException ? secondsIn(error.headers["retry-after"]) : undefined;
  }

  override get isDenied(): boolean {
    return this.status === 403 && !this.#isQuota;
  }

  /** Admission refuses again what it has refused; a quota has room once something ends. */
  override get prospect(): Prospect {
    if (this.#isQuota) {
      return "room";
    }
    return this.outcome === "refused" && this.status !== 409 ? "lasts" : "passes";
  }

  /** Whether the caller has not the right; what admission refuses is forbidden with the same status. */
  get isUnauthorized(): boolean {
    return this.status === 403 && /^[^:]*:.* cannot \S+ resource "/.test(this.message);
  }

  get #isQuota(): boolean {
    return this.status === 403 && /exceeded quota/.test(this.message);
  }
}

/** Whether the API server has answered that what was named does not exist. */
export function isMissing(error: unknown): error is KubernetesError {
  return error instanceof KubernetesError && error.status === 404;
}

/** Whether something of that name is there, or is another than the one that was meant. */
export function isConflict(error: unknown): error is KubernetesError {
  return error instanceof KubernetesError && error.status === 409;
}

const tooMany = 429;

function kindOf(status: number): ErrorKind {
  if (status === tooMany || status === 503 || status === 0) {
    return "unavailable";
  }
  return status === 422 ? "invalid" : "system";
}

function outcomeOf(status: number): CallOutcome {
  if (status === tooMany) {
    return "throttled";
  }
  return status >= 400 && status < 500 && status !== 408 ? "refused" : "unknown";
}

/** The `Status` that Kubernetes answers with an error; a proxy's page is none. */
function statusIn(body: unknown): { readonly reason?: string; readonly message?: string } {
  if (typeof body !== "string") {
    return (body ?? {}) as { readonly reason?: string; readonly message?: string };
  }
  try {
    return statusIn(JSON.parse(body) as object);
  } catch {
    return {};
  }
}

/** `ws` tells the status of a refused upgrade in its message alone. */
function statusOfUpgrade(error: unknown): number {
  return Number(/Unexpected server response: (\d{3})/.exec(messageOf(error))?.[1] ?? 0);
}

function errnoIn(error: unknown): string {
  return errnoOf(error) ?? errnoOf(causeOf(error)) ?? (error instanceof Error ? error.name : "Error");
}

/** `fetch` says no more than that it has failed: its cause says why. */
function causeOf(error: unknown): unknown {
  return error instanceof Error && error.cause instanceof Error ? error.cause : error;
}

function secondsIn(text: string | undefined): number | undefined {
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined;
}
