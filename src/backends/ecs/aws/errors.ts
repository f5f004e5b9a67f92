/** AWS's errors, converted once, where a call's answer arrives. */
import { type ErrorKind, errnoOf, messageOf } from "../../../common/errors.ts";
import { type CallOutcome, CloudError, transientErrnos } from "../../cloud/contract/cloud-error.ts";
import { clockClause } from "../../cloud/calls/clock-difference.ts";
import type { Prospect } from "../../cloud/contract/start-prospect.ts";
import { statusLine } from "../../images/registry/registry-errors.ts";
import { prospectOfWords } from "./start-prospects.ts";

/** The services that this backend calls, by their names in messages. */
export type AwsServiceName =
  | "ecs"
  | "logs"
  | "efs"
  | "servicediscovery"
  | "ecr"
  | "ec2"
  | "service-quotas"
  | "sts"
  | "iam";

/** A call's name in messages and logs. */
export interface AwsCall {
  readonly service: AwsServiceName;
  /** As AWS writes it: `RunTask`. */
  readonly operation: string;
}

/**
 * A call that AWS refused, or that did not reach AWS. The message names the call and keeps AWS's own text; decide by
 * `code`, never by the text.
 */
export class AwsError extends CloudError {
  readonly call: AwsCall;
  /** AWS's name of the error (`ClusterNotFoundException`), or Node's errno where nobody answered. */
  readonly code: string;
  /** AWS's ID of the request; undefined where nobody answered. */
  readonly requestId: string | undefined;
  /** HTTP status; 0 where nobody answered. */
  readonly status: number;
  readonly outcome: CallOutcome;

  constructor(call: AwsCall, error: unknown) {
    const code = codeOf(error);
    const words = isWithoutCredentials(code) ? withoutCredentials : messageOf(error);
    super(
      kindOf(code),
      `${call.service}: ${call.operation}: ${unreadable(error) ?? `${words}${clockClause(dateOf(error), code)} (${code})`}`,
      error,
    );
    this.call = call;
    this.code = code;
    const metadata = metadataOf(error);
    this.requestId = metadata?.requestId;
    this.status = metadata?.httpStatusCode ?? 0;
    this.outcome = throttled.has(code) ? "throttled" : isAnswer(this) ? "refused" : "unknown";
  }

  override get isDenied(): boolean {
    return denied.test(this.code);
  }

  override get prospect(): Prospect {
    const isLasting = this.hasLastingCode(this.code) && !mayHaveNewCredentials(this);
    return prospectOfWords(this.message) ?? (isLasting ? "lasts" : super.prospect);
  }

  override get remedy(): string | undefined {
    return isWithoutCredentials(this.code) ? `${howToGiveCredentials} (${messageOf(this.cause)})` : undefined;
  }
}

/** AWS's names for a right that is missing: each of its protocols has names of its own. */
const denied = /^(AccessDenied|UnauthorizedOperation|NotAuthorized|AuthorizationError)/;

/** A sentence for an answer that is none of AWS's forms, whose parser's words would tell nobody anything. */
function unreadable(error: unknown): string | undefined {
  const status = metadataOf(error)?.httpStatusCode;
  const isUnread =
    error instanceof Error &&
    (/^Unknown(Error)?$/.test(error.name) || error.message.includes("Deserialization error"));
  if (status === undefined || !isUnread) {
    return undefined;
  }
  const answered = `AWS or a gateway on the way answered ${statusLine(status)}`;
  return status < 400 ? `${answered} with what cannot be read` : answered;
}

function isWithoutCredentials(code: string): boolean {
  return code === "CredentialsProviderError" || code === "TokenProviderError";
}

/** The message of each call without credentials, in short; the backend's start says once what to do. */
const withoutCredentials = "there are no credentials for AWS";
const howToGiveCredentials = `${withoutCredentials}: set AWS_PROFILE (after \`aws sso login\` where it is one of IAM Identity Center) or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run this backend with a role of its task, pod or instance`;

/** Whether a caught value is a refusal with one of these codes. */
export function isAwsError(error: unknown, ...codes: readonly string[]): error is AwsError {
  return error instanceof AwsError && codes.includes(error.code);
}

/** Whether AWS has refused a call for its credentials: they, or the signature, are too old, or the keys are no more. */
export function mayHaveNewCredentials({ code }: AwsError): boolean {
  return outdated.has(code);
}

/** AWS's names for credentials that have been valid: each of its protocols has names of its own. */
const outdated: ReadonlySet<string> = new Set([
  "ExpiredToken",
  "ExpiredTokenException",
  "RequestExpired",
  // Keys that were rotated, or whose user was deleted.
  "AuthFailure", // EC2's.
  "InvalidAccessKeyId",
  "InvalidClientTokenId",
  "UnrecognizedClientException",
  // A file of keys that was read while it was written.
  "InvalidSignatureException",
  "SignatureDoesNotMatch",
]);

/** Whether a retry may soon succeed, after a fault of AWS's own or of the connection. */
export function isTransient(error: AwsError): boolean {
  return error.status >= 500 || transient.has(error.code);
}

/**
 * Whether AWS has answered that it does not do it. After every other failure nobody knows what it has done: it may not
 * have been reached, as when the credentials' provider did not answer, or its answer may have been cut, which makes it
 * unreadable although its status is 200.
 */
function isAnswer(error: AwsError): boolean {
  return (
    error.status >= 400 &&
    error.status < 500 &&
    error.status !== requestTimeout &&
    error.status !== tooManyRequests &&
    !isTransient(error)
  );
}

const requestTimeout = 408;
const tooManyRequests = 429;

const throttled: ReadonlySet<string> = new Set([
  "ThrottlingException",
  "Throttling",
  "ThrottledException",
  "TooManyRequestsException",
  "RequestLimitExceeded",
  "RequestThrottled",
  "SlowDown",
]);

const transient: ReadonlySet<string> = new Set([
  ...transientErrnos,
  "TimeoutError",
  "RequestTimeout",
  "ServerException",
]);

/**
 * The kinds of AWS's errors. An error that is not named here is `system`: a refused permission, a cluster or file
 * system that the configuration names and that does not exist, a request of ours that AWS does not understand. None of
 * these is the fault of the Docker client.
 */
const kinds: Readonly<Record<string, ErrorKind>> = {
  ...Object.fromEntries([...throttled].map((code) => [code, "unavailable" as const])),
  // Quotas: the same request succeeds once there is room.
  AccessPointLimitExceeded: "unavailable",
  InstanceLimitExceeded: "unavailable",
  LimitExceededException: "unavailable",
  ResourceLimitExceeded: "unavailable",
  RulesPerSecurityGroupLimitExceeded: "unavailable",
  SecurityGroupLimitExceeded: "unavailable",
  ServiceLimitExceeded: "unavailable",
  // The user named the image.
  ImageNotFoundException: "not-found",
};

function kindOf(code: string): ErrorKind {
  return kinds[code] ?? "system";
}

/** The name in AWS's answer; the SDK's classes carry it too, but not every error has a class. */
function codeOf(error: unknown): string {
  const errno = errnoOf(error);
  if (errno !== undefined && metadataOf(error)?.httpStatusCode === undefined) {
    return errno;
  }
  return error instanceof Error ? error.name : "UnknownError";
}

/** The header `Date` of AWS's answer; the SDK hangs the answer on what it throws. */
function dateOf(error: unknown): string | undefined {
  const { $response } = (error ?? {}) as {
    readonly $response?: { readonly headers?: Readonly<Record<string, string>> };
  };
  return $response?.headers?.["date"];
}

function metadataOf(
  error: unknown,
): { readonly requestId?: string; readonly httpStatusCode?: number } | undefined {
  return (error as { readonly $metadata?: object } | undefined)?.$metadata;
}
