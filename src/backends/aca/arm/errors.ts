/** Azure's errors, converted once, where a call's answer comes in. */
import type { PipelineResponse } from "@azure/core-rest-pipeline";

import { type ErrorKind, errnoOf, messageOf } from "../../../common/errors.ts";
import { type CallOutcome, CloudError, transientErrnos } from "../../cloud/contract/cloud-error.ts";
import { clockClause } from "../../cloud/calls/clock-difference.ts";
import { isLastingCode, type Prospect, quotesRefusal } from "../../cloud/contract/start-prospect.ts";
import { statusLine } from "../../images/registry/registry-errors.ts";
import { roleFor } from "./roles.ts";

/**
 * A call that Azure refused, or that did not reach it. The message names the call and keeps Azure's own text; decide by
 * `code`, never by the text.
 */
export class AzureError extends CloudError {
  /** The operation as Azure's specification names it: `Jobs_Start`. */
  readonly operation: string;
  /** Azure's name of the error (`AuthorizationFailed`), or Node's errno where nobody answered. */
  readonly code: string;
  /** HTTP status; 0 where nobody answered, or where an operation that was accepted has failed later. */
  readonly status: number;
  readonly outcome: CallOutcome;
  /** Whether this machine's clock is another than Azure's, which may be the reason. */
  readonly isUntimely: boolean;
  readonly #remedy: string | undefined;

  constructor(operation: string, error: unknown) {
    const status = statusOf(error);
    const login = isWithoutCredentials(error) ? loginOf(error) : undefined;
    const code = login?.refusal?.code ?? codeOf(error, status);
    const words = login?.words ?? wordsOf(error, status);
    const role = status === forbiddenStatus ? roleFor(operation, words) : undefined;
    const needed = role === undefined ? "" : `; that is for the role ${role}`;
    const clock = clockClause(login?.refusal?.date ?? dateOf(error), code);
    super(kindOf(code, status), `${operation}: ${words}${needed}${clock} (${code})`, error);
    this.operation = operation;
    this.code = code;
    this.status = status;
    this.outcome = login?.refusal === undefined ? outcomeOf(error, code, status) : "refused";
    this.isUntimely = clock !== "";
    this.#remedy = login && login.remedy + clock;
  }

  override get remedy(): string | undefined {
    return this.#remedy;
  }

  override get isDenied(): boolean {
    return this.status === forbiddenStatus;
  }

  override get prospect(): Prospect {
    if (room.test(this.message)) {
      return "room";
    }
    if (isJustMade(this) || isRefusedLogin(this)) {
      return "passes";
    }
    if (this.status === 0 || image.test(this.message)) {
      return quotesRefusal(this.message) ? "lasts" : "passes";
    }
    const isNoRole = this.isDenied && !/Authori[sz]/.test(this.code); // A policy, or a key.
    return isNoRole || isLastingCode(this.code) ? "lasts" : super.prospect;
  }
}

/** A call that Azure has accepted, and of which it does not tell what it has done. */
export class UntoldOutcome extends AzureError {
  override readonly outcome = "unknown";
}

const withoutCredentials = "there are no credentials for Azure";
const howToGiveCredentials = `${withoutCredentials}: run \`az login\`, set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, or run this backend with a managed identity`;

/** Whether a caught value is Azure's refusal by one of these names. */
export function isAzureError(error: unknown, ...codes: readonly string[]): error is AzureError {
  return error instanceof AzureError && codes.includes(error.code);
}

/** Whether Azure has answered that what was named does not exist. */
export function isMissing(error: unknown): error is AzureError {
  return error instanceof AzureError && error.status === notFoundStatus;
}

/** Whether something else is done with what was named. */
export function isConflict(error: unknown): error is AzureError {
  return error instanceof AzureError && error.status === conflictStatus;
}

/** Whether Azure keeps a storage because a job names it. No specification has the code, so the words will do. */
export function isStorageInUse(error: unknown): error is AzureError {
  return error instanceof AzureError && (/InUse$/.test(error.code) || /\bin use\b/i.test(error.message));
}

/** Whether an answer asks for fewer calls. */
export function isThrottledStatus(status: number): boolean {
  return status === tooManyRequests;
}

/** Whether an answer tells of a fault of Azure's own, after which the same call may well succeed. */
export function isTransientStatus(status: number): boolean {
  return status >= 500 || status === requestTimeout;
}

/** Whether a call that brought no answer may well bring one in a moment. */
export function isTransientFailure(error: unknown): boolean {
  return transientErrnos.has(errnoOf(error) ?? errnoOf((error as Error | undefined)?.cause) ?? "");
}

/**
 * Whether Azure has refused to tell of an operation, with the error that a look at it has met: any other answer is that of
 * the operation itself, which has failed.
 */
export function isUntold(error: unknown): boolean {
  return [401, 403, notFoundStatus, tooManyRequests].includes(statusOf(error));
}

/** A full environment has no code of its own. */
const room = /maximum allowed cores|(cores?|cpu)\b.*\bquota|quota\b.*\b(cores?|cpu)\b|MaxNumberOfJobs/i;
/** A registry's answer comes in the code of an invalid template, or of an operation that was accepted and has failed. */
const image = /template\.containers\S*\.image|ContainerAppOperationError/;

/** Whether a job or an identity is not known yet that was made a moment ago. */
function isJustMade({ operation, code, message }: AzureError): boolean {
  return (
    (/^Jobs_(CreateOrUpdate|Start)$/.test(operation) && /^(Resource|Job)NotFound$/.test(code)) ||
    /identity.*(not (yet )?(found|assigned|available)|does not exist)/is.test(message)
  );
}

const requestTimeout = 408;
const forbiddenStatus = 403;
const notFoundStatus = 404;
const conflictStatus = 409;
const tooManyRequests = 429;

/** The names of the errors of `@azure/identity`: no source of its chain has credentials, or the login was refused. */
const loginErrors: ReadonlySet<string> = new Set([
  "CredentialUnavailableError",
  "AggregateAuthenticationError",
  "AuthenticationError",
  "AuthenticationRequiredError",
]);

function isWithoutCredentials(error: unknown): boolean {
  return error instanceof Error && loginErrors.has(error.name);
}

/** A login that has failed. */
interface FailedLogin {
  readonly words: string;
  /** A sentence on what to do about it, for whoever runs the backend. */
  readonly remedy: string;
  /** The answer of Entra ID; undefined: it was not asked, or has not answered. */
  readonly refusal: { readonly code: string; readonly date: string | undefined } | undefined;
}

/** A code and a sentence of Entra ID's, which the SDK only quotes; IDs of the request follow. */
const entraRefusal = /(?<code>AADSTS\d+): (?<words>[^\r\n]*?)\s*(?=Trace ID:| - Correlation ID:|[\r\n]|$)/;
/** Entra ID's time of its answer: its header `Date` does not come through. */
const entraTime = /Timestamp: (?<day>\d{4}-\d\d-\d\d) (?<time>\d\d:\d\d:\d\dZ)/;

function loginOf(error: unknown): FailedLogin {
  const message = messageOf(error);
  const { code, words = "" } = entraRefusal.exec(message)?.groups ?? {};
  if (code === undefined) {
    const remedy = `${howToGiveCredentials} (${message.split("\n", 1)[0]})`;
    return { words: withoutCredentials, remedy, refusal: undefined };
  }
  const { day, time } = entraTime.exec(message)?.groups ?? {};
  const told = `Azure has refused the login: ${code}: ${words}`;
  return {
    words: told,
    remedy: told,
    refusal: { code, date: day === undefined ? undefined : `${day}T${time}` },
  };
}

/** Credentials may be renewed meanwhile, and clocks set. */
function isRefusedLogin({ code }: AzureError): boolean {
  return code.startsWith("AADSTS");
}

/** The kinds of Azure's errors that are not `system`, which are no fault of the Docker client. */
const kinds: Readonly<Record<string, ErrorKind>> = {
  TooManyRequests: "unavailable",
  SubscriptionRequestsThrottled: "unavailable",
  ResourceGroupBeingDeleted: "unavailable",
  ServiceUnavailable: "unavailable",
};

function kindOf(code: string, status: number): ErrorKind {
  return kinds[code] ?? (status === tooManyRequests || status === 503 ? "unavailable" : "system");
}

/**
 * The effect of a failed call. Anything but an answer leaves it open: it may not have been reached, or its answer may
 * have been cut.
 */
function outcomeOf(error: unknown, code: string, status: number): CallOutcome {
  if (status === tooManyRequests || kinds[code] === "unavailable") {
    return "throttled";
  }
  return isFailedOperation(error, status) || (status >= 400 && !isTransientStatus(status))
    ? "refused"
    : "unknown";
}

/** Whether Azure has accepted a call, and told later that it came to nothing: the SDK's pollers throw its text alone. */
function isFailedOperation(error: unknown, status: number): boolean {
  return status === 0 && failedOperation.test(messageOf(error));
}

const failedOperation =
  /^The long-running operation has (?:failed|been canceled)(?:\. (?<code>\w+)\. (?<words>[\s\S]*))?$/;

function statusOf(error: unknown): number {
  const { statusCode, status } = (error ?? {}) as {
    readonly statusCode?: unknown;
    readonly status?: unknown;
  };
  const found = Number(statusCode ?? status ?? 0);
  return Number.isInteger(found) ? found : 0;
}

/** The name in Azure's answer, which a gateway's answer has not; Node's errno where nobody answered. */
function codeOf(error: unknown, status: number): string {
  const failed = failedOperation.exec(messageOf(error))?.groups?.["code"];
  if (failed !== undefined) {
    return failed;
  }
  const { code } = (error ?? {}) as { readonly code?: unknown };
  if (typeof code === "string" && code !== "" && code !== "REQUEST_SEND_ERROR") {
    return code;
  }
  const cause = error instanceof Error ? error.cause : undefined;
  return (
    errnoOf(error) ?? errnoOf(cause) ?? (status > 0 ? `HTTP ${status}` : ((error as Error)?.name ?? "Error"))
  );
}

/** The header `Date` of Azure's answer. */
function dateOf(error: unknown): string | undefined {
  const { response } = (error ?? {}) as { readonly response?: Pick<PipelineResponse, "headers"> };
  return response?.headers.get("date");
}

/** Azure's words; a page of a gateway on the way is none. */
function wordsOf(error: unknown, status: number): string {
  const words = failedOperation.exec(messageOf(error))?.groups?.["words"] ?? messageOf(error);
  const isPage = /^\s*</.test(words) || words.trim() === "";
  return isPage && status > 0 ? `Azure or a gateway on the way answered ${statusLine(status)}` : words;
}
