/** Azure's errors, converted in one place, where a call's answer arrives. */
import type { PipelineResponse } from "@azure/core-rest-pipeline";

import { type ErrorKind, errnoOf, messageOf } from "../../../common/errors.ts";
import { type CallOutcome, CloudError, transientErrnos } from "../../cloud/contract/cloud-error.ts";
import { clockClause } from "../../cloud/calls/clock-difference.ts";
import { type Prospect, quotesRefusal } from "../../cloud/contract/start-prospect.ts";
import { statusLine } from "../../images/registry/registry-errors.ts";
import { roleFor } from "./roles.ts";

/**
 * A call that Azure refused, or that did not reach it. The message names the call and includes Azure's text; code must
 * branch on `code`, never on the text.
 */
export class AzureError extends CloudError {
  /** The operation's name in Azure's specification: `Jobs_Start`. */
  readonly operation: string;
  /** Azure's error code (`AuthorizationFailed`), or Node's error code if there was no answer. */
  readonly code: string;
  /** HTTP status; 0 without an answer, or if an accepted operation failed later. */
  readonly status: number;
  readonly outcome: CallOutcome;
  /** Whether this machine's clock differs from Azure's, as a possible cause. */
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
    // The reason is a policy or a key, not a missing role.
    const isNoRole = this.isDenied && !/Authori[sz]/.test(this.code);
    return isNoRole || this.hasLastingCode(this.code) ? "lasts" : super.prospect;
  }
}

/** An accepted call whose outcome Azure does not report. */
export class UntoldOutcome extends AzureError {
  override readonly outcome = "unknown";
}

const withoutCredentials = "there are no credentials for Azure";
const howToGiveCredentials = `${withoutCredentials}: run \`az login\`, set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, or run this backend with a managed identity`;

/** Whether a caught value is a refusal with one of these codes. */
export function isAzureError(error: unknown, ...codes: readonly string[]): error is AzureError {
  return error instanceof AzureError && codes.includes(error.code);
}

/** Whether Azure answered that a named resource does not exist. */
export function isMissing(error: unknown): error is AzureError {
  return error instanceof AzureError && error.status === notFoundStatus;
}

/** Whether another operation on the named resource is in progress. */
export function isConflict(error: unknown): error is AzureError {
  return error instanceof AzureError && error.status === conflictStatus;
}

/** Whether Azure keeps a storage because a job refers to it. As no specification has the code, the text is matched. */
export function isStorageInUse(error: unknown): error is AzureError {
  return error instanceof AzureError && (/InUse$/.test(error.code) || /\bin use\b/i.test(error.message));
}

/** Whether an answer throttles the caller. */
export function isThrottledStatus(status: number): boolean {
  return status === tooManyRequests;
}

/** Whether an answer reports a fault of Azure's own, after which a retry may succeed. */
export function isTransientStatus(status: number): boolean {
  return status >= 500 || status === requestTimeout;
}

/** Whether a retry of an unanswered call may soon succeed. */
export function isTransientFailure(error: unknown): boolean {
  return transientErrnos.has(errnoOf(error) ?? errnoOf((error as Error | undefined)?.cause) ?? "");
}

/**
 * Whether the error is a refusal to report an operation's status; any other answer means that the operation itself has
 * failed.
 */
export function isUntold(error: unknown): boolean {
  return [401, 403, notFoundStatus, tooManyRequests].includes(statusOf(error));
}

/** A full environment has no code of its own. */
const room = /maximum allowed cores|(cores?|cpu)\b.*\bquota|quota\b.*\b(cores?|cpu)\b|MaxNumberOfJobs/i;
/** Codes that wrap a registry's answer: an invalid template, or a failed operation. */
const image = /template\.containers\S*\.image|ContainerAppOperationError/;

/** Whether a newly created job or identity is not known yet. */
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

/** A failed login. */
interface FailedLogin {
  readonly words: string;
  /** Instructions for the operator. */
  readonly remedy: string;
  /** The answer of Entra ID; undefined if it was not asked, or has not answered. */
  readonly refusal: { readonly code: string; readonly date: string | undefined } | undefined;
}

/** Entra ID's code and sentence, which the SDK only quotes, followed by request IDs. */
const entraRefusal = /(?<code>AADSTS\d+): (?<words>[^\r\n]*?)\s*(?=Trace ID:| - Correlation ID:|[\r\n]|$)/;
/** The time in Entra ID's answer, as the SDK hides its `Date` header. */
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

/** Whether Entra ID has refused the login: retryable, as credentials may be renewed and clocks set meanwhile. */
export function isRefusedLogin({ code }: AzureError): boolean {
  return code.startsWith("AADSTS");
}

/** Kinds of Azure's errors other than `system`; system errors are not the Docker client's fault. */
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
 * The effect of a failed call: unknown without an answer, as the call may not have arrived, or its answer may have been
 * lost.
 */
function outcomeOf(error: unknown, code: string, status: number): CallOutcome {
  if (status === tooManyRequests || kinds[code] === "unavailable") {
    return "throttled";
  }
  return isFailedOperation(error, status) || (status >= 400 && !isTransientStatus(status))
    ? "refused"
    : "unknown";
}

/** Whether an accepted call has failed later: the SDK's pollers then throw only the text. */
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

/** The error code in Azure's answer, which a gateway's lacks; Node's error code without an answer. */
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

/** Azure's message; not a gateway's page. */
function wordsOf(error: unknown, status: number): string {
  const words = failedOperation.exec(messageOf(error))?.groups?.["words"] ?? messageOf(error);
  const isPage = /^\s*</.test(words) || words.trim() === "";
  return isPage && status > 0 ? `Azure or a gateway on the way answered ${statusLine(status)}` : words;
}
