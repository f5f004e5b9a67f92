/** AWS's errors, converted in one place, where a call's answer arrives. */
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
  /** The name in AWS's API: `RunTask`. */
  readonly operation: string;
}

/**
 * A call that AWS refused, or that did not reach AWS. The message names the call and keeps AWS's own text; decide by
 * `code`, never by the text.
 */
export class AwsError extends CloudError {
  readonly call: AwsCall;
  /** AWS's name of the error (`ClusterNotFoundException`), or Node's errno without an answer. */
  readonly code: string;
  /** AWS's ID of the request; undefined without an answer. */
  readonly requestId: string | undefined;
  /** HTTP status; 0 without an answer. */
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

/** AWS's codes for a missing permission, which differ by protocol. */
const denied = /^(AccessDenied|UnauthorizedOperation|NotAuthorized|AuthorizationError)/;

/** A sentence for an answer that is not in AWS's format: the parser's message would not help anybody. */
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

/** The short message of each call without credentials; the backend's start logs once what to do. */
const withoutCredentials = "there are no credentials for AWS";
const howToGiveCredentials = `${withoutCredentials}: set AWS_PROFILE (after \`aws sso login\` where it is one of IAM Identity Center) or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run this backend with a role of its task, pod or instance`;

/** Whether a caught value is a refusal with one of these codes. */
export function isAwsError(error: unknown, ...codes: readonly string[]): error is AwsError {
  return error instanceof AwsError && codes.includes(error.code);
}

/**
 * Whether AWS has refused a call because of its credentials: they or the signature have expired, or the keys were
 * deleted.
 */
export function mayHaveNewCredentials({ code }: AwsError): boolean {
  return outdated.has(code);
}

/** AWS's codes for credentials that are no longer valid, which differ by protocol. */
const outdated: ReadonlySet<string> = new Set([
  "ExpiredToken",
  "ExpiredTokenException",
  "RequestExpired",
  // Keys that were rotated, or whose user was deleted.
  "AuthFailure", // EC2's code.
  "InvalidAccessKeyId",
  "InvalidClientTokenId",
  "UnrecognizedClientException",
  // A key file that was read while it was being written.
  "InvalidSignatureException",
  "SignatureDoesNotMatch",
]);

/** Whether a retry may soon succeed, after a fault of AWS's own or of the connection. */
export function isTransient(error: AwsError): boolean {
  return error.status >= 500 || transient.has(error.code);
}

/**
 * Whether AWS has answered that it refuses the call. After every other failure the effect is unknown: AWS may not have
 * been reached, for instance if the credentials' provider did not answer, or its answer may have been truncated, which
 * makes it unreadable although its status is 200.
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
 * The kinds of AWS's errors. All others are `system`: a missing permission, a configured cluster or file system that
 * does not exist, a request that AWS does not understand. None of these is the Docker client's fault.
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

/** The code in AWS's answer; the SDK's error classes have it too, but not every error has a class. */
function codeOf(error: unknown): string {
  const errno = errnoOf(error);
  if (errno !== undefined && metadataOf(error)?.httpStatusCode === undefined) {
    return errno;
  }
  return error instanceof Error ? error.name : "UnknownError";
}

/** The header `Date` of AWS's answer, which the SDK attaches to its errors. */
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
