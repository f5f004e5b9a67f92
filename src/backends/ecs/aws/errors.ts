/** AWS's errors, converted once, where a call's answer comes in. */
import { type ErrorKind, errnoOf, messageOf, SockerlessError } from "../../../common/errors.ts";

/** The services that this backend calls, as its messages name them. */
export type AwsServiceName = "ecs" | "logs" | "efs" | "servicediscovery" | "ecr" | "ec2" | "sts";

/** Which call it was. */
export interface AwsCall {
  readonly service: AwsServiceName;
  /** As AWS writes it: `RunTask`. */
  readonly operation: string;
}

/**
 * A call that AWS refused, or that did not reach AWS. The message names the call and keeps AWS's own text; decide by
 * `code`, never by the text.
 */
export class AwsError extends SockerlessError {
  readonly call: AwsCall;
  /** AWS's name of the error (`ClusterNotFoundException`), or Node's errno where nobody answered. */
  readonly code: string;
  /** AWS's ID of the request; undefined where nobody answered. */
  readonly requestId: string | undefined;
  /** HTTP status; 0 where nobody answered. */
  readonly status: number;

  constructor(call: AwsCall, error: unknown) {
    const code = codeOf(error);
    super(kindOf(code), `${call.service}: ${call.operation}: ${messageOf(error)} (${code})`, error);
    this.call = call;
    this.code = code;
    const metadata = metadataOf(error);
    this.requestId = metadata?.requestId;
    this.status = metadata?.httpStatusCode ?? 0;
  }
}

/** Whether a caught value is AWS's refusal by one of these names. */
export function isAwsError(error: unknown, ...codes: readonly string[]): error is AwsError {
  return error instanceof AwsError && codes.includes(error.code);
}

/** Whether AWS asks to be called less often. */
export function isThrottled(error: AwsError): boolean {
  return throttled.has(error.code);
}

/** Whether the same call may well succeed in a moment: a fault of AWS's own, or of the way there. */
export function isTransient(error: AwsError): boolean {
  return error.status >= 500 || transient.has(error.code);
}

/**
 * Whether AWS has answered that it does not do it: asked again, it says so again. After every other failure nobody knows
 * what it has done: it may not have been reached, as where the credentials' provider did not answer, or its answer may
 * have been cut, so that it cannot be read for all its status of 200.
 */
export function isRefusal(error: unknown): error is AwsError {
  return (
    error instanceof AwsError &&
    error.status >= 400 &&
    error.status < 500 &&
    error.status !== requestTimeout &&
    error.status !== tooManyRequests &&
    !isThrottled(error) &&
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
  "EAI_AGAIN",
  "ECONNABORTED",
  "ECONNREFUSED",
  "ECONNRESET",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOTFOUND", // What a resolver says that has lost its own.
  "EPIPE",
  "ETIMEDOUT",
  "TimeoutError",
  "RequestTimeout",
  "ServerException",
]);

/**
 * The kinds of AWS's errors. What is not named is `system`: a refused permission, a cluster or file system that the
 * configuration names and that does not exist, a request of ours that AWS does not understand. None of these is the
 * fault of whoever speaks Docker to us.
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
  // What the user named.
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

function metadataOf(
  error: unknown,
): { readonly requestId?: string; readonly httpStatusCode?: number } | undefined {
  return (error as { readonly $metadata?: object } | undefined)?.$metadata;
}
