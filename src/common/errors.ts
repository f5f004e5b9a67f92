/**
 * The errors of sockerless: a closed set of kinds. Errors are converted once on entry (a Node, Connect or cloud error
 * becomes a {@link SockerlessError}) and once on exit (the backend's services return a `ConnectError`, the frontend an
 * HTTP status).
 *
 * Between processes the kind travels as a Connect code plus the metadata header `sockerless-error-kind`, as gRPC has no
 * codes for some kinds. Without the header (a client library in another language, a proxy in between) the code alone
 * decides.
 */
// Types only: the supervisor must not load the RPC code.
import type { Code, ConnectError } from "@connectrpc/connect";

/** Every kind of error. `system` is the rest: a fault of ours or of the machine, never of the caller. */
export const errorKinds = [
  "not-found",
  "conflict",
  "invalid",
  "not-modified",
  "forbidden",
  "unauthorized",
  "unavailable",
  "not-implemented",
  "system",
] as const;

/** One of {@link errorKinds}. */
export type ErrorKind = (typeof errorKinds)[number];

/** The metadata header (a trailer in gRPC) that carries an {@link ErrorKind} between processes. */
export const errorKindHeader = "sockerless-error-kind";

/** An error that crosses a process or a thread as plain data. */
export interface ErrorData {
  readonly kind: ErrorKind;
  readonly message: string;
}

/** An error with a kind. The message is what the user reads, so it is written in Docker's wording. */
export class SockerlessError extends Error {
  override readonly name = "SockerlessError";
  readonly kind: ErrorKind;

  /**
   * @param kind which of the closed set this is
   * @param message the text for the user, without a prefix
   * @param cause what was caught, kept for the log
   */
  constructor(kind: ErrorKind, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.kind = kind;
  }

  /**
   * One sentence on what to do, if everything fails until that is done. The first check that fails logs it; other
   * failures need no log line.
   */
  get remedy(): string | undefined {
    return undefined;
  }
}

/** The remedy of an error; undefined if it has none and must be logged itself. */
export function remedyOf(error: unknown): string | undefined {
  return error instanceof SockerlessError ? error.remedy : undefined;
}

/** Something named in the request does not exist. */
export const notFound = constructorOf("not-found");
/** The state of the object forbids the request: a name in use, a container that is not running. */
export const conflict = constructorOf("conflict");
/** The request is malformed or asks for the impossible. */
export const invalid = constructorOf("invalid");
/** The object is already in the requested state; HTTP answers 304. */
export const notModified = constructorOf("not-modified");
/** Understood and refused to every caller. */
export const forbidden = constructorOf("forbidden");
/** The credentials are missing or wrong. */
export const unauthorized = constructorOf("unauthorized");
/** Something needed for the answer is unreachable now; the same request may succeed later. */
export const unavailable = constructorOf("unavailable");
/** This backend cannot do it; the message names the feature and the backend. */
export const notImplemented = constructorOf("not-implemented");
/** A fault of ours or of the machine. */
export const systemError = constructorOf("system");

function constructorOf(kind: ErrorKind): (message: string, cause?: unknown) => SockerlessError {
  return (message, cause) => new SockerlessError(kind, message, cause);
}

/**
 * The kind of a Connect error without our header. FailedPrecondition means a conflict to everyone but us; Aborted is
 * the library's code for a connection reset in mid-stream. Canceled, DeadlineExceeded and DataLoss say nothing about
 * the request, so they are `system`, as in moby.
 */
const kindOfCode: Readonly<Partial<Record<Code, ErrorKind>>> = {
  5: "not-found", // NotFound
  6: "conflict", // AlreadyExists
  9: "conflict", // FailedPrecondition
  10: "unavailable", // Aborted
  3: "invalid", // InvalidArgument
  11: "invalid", // OutOfRange
  7: "forbidden", // PermissionDenied
  16: "unauthorized", // Unauthenticated
  14: "unavailable", // Unavailable
  8: "unavailable", // ResourceExhausted
  12: "not-implemented", // Unimplemented
};

/** Connection failures: the peer is unreachable, whatever the request. */
const unavailableErrnos: ReadonlySet<string> = new Set([
  "EAI_AGAIN",
  "ECONNABORTED",
  "ECONNREFUSED",
  "ECONNRESET",
  "EHOSTDOWN",
  "EHOSTUNREACH",
  "ENETDOWN",
  "ENETUNREACH",
  "ENOTFOUND",
  "EPIPE",
  "ETIMEDOUT",
]);

const kindOfFileErrno: Readonly<Record<string, ErrorKind>> = {
  ENOENT: "not-found",
  ENOTDIR: "not-found",
  EEXIST: "conflict",
  ENOTEMPTY: "conflict",
  EBUSY: "conflict",
  ETXTBSY: "conflict",
  EINVAL: "invalid",
  EISDIR: "invalid",
  ELOOP: "invalid",
  ENAMETOOLONG: "invalid",
  EACCES: "forbidden",
  EPERM: "forbidden",
  EROFS: "forbidden",
  ENOSYS: "not-implemented",
  ENOTSUP: "not-implemented",
  EOPNOTSUPP: "not-implemented",
};

/**
 * Converts any caught value to a {@link SockerlessError}, with the original as `cause`. A file-system errno becomes
 * `system` here: a missing file of ours must not become a 404 to the user; see {@link fromFileError}.
 */
export function fromUnknown(error: unknown): SockerlessError {
  if (error instanceof SockerlessError) {
    return error;
  }
  if (isConnectError(error)) {
    // If the peer gave no message, the error's text names its code.
    return new SockerlessError(kindOfConnectError(error), error.rawMessage || error.message, error);
  }
  if (error instanceof Error) {
    const kind = unavailableErrnos.has(errnoOf(error) ?? "") ? "unavailable" : "system";
    return new SockerlessError(kind, error.message, error);
  }
  return new SockerlessError("system", String(error), error);
}

/**
 * Converts the failure of a file operation on a path that the *user* named, by its errno (ENOENT is not-found, EEXIST
 * conflict, EACCES forbidden).
 *
 * @param message replaces Node's text, which would show paths of this machine
 */
export function fromFileError(error: unknown, message?: string): SockerlessError {
  const errno = errnoOf(error);
  const kind = errno === undefined ? undefined : kindOfFileErrno[errno];
  if (kind === undefined) {
    const general = fromUnknown(error);
    return message === undefined ? general : new SockerlessError(general.kind, message, error);
  }
  return new SockerlessError(kind, message ?? messageOf(error), error);
}

/** Any caught value as plain data, for a message to another thread. */
export function toErrorData(error: unknown): ErrorData {
  const { kind, message } = fromUnknown(error);
  return { kind, message };
}

/** True if a caught value has this kind, or converts to it. */
export function isErrorKind(error: unknown, kind: ErrorKind): boolean {
  return fromUnknown(error).kind === kind;
}

/** The text of any caught value. */
export function messageOf(error: unknown): string {
  if (isConnectError(error)) {
    return error.rawMessage;
  }
  return error instanceof Error ? error.message : String(error);
}

/**
 * The request ID that a service assigned to a refused request (AWS support asks for it), from anywhere in a caught
 * value's chain of causes.
 */
export function requestIdOf(error: unknown): string | undefined {
  for (let each = error; each instanceof Error; each = each.cause) {
    if ("requestId" in each && typeof each.requestId === "string") {
      return each.requestId;
    }
  }
  return undefined;
}

/** Node's errno name (`ENOENT`) of a caught value, if it has one. */
export function errnoOf(error: unknown): string | undefined {
  if (error instanceof Error && "code" in error && typeof error.code === "string") {
    return error.code;
  }
  return undefined;
}

/** Makes a handler of failures that throws all but the expected ones. */
export function ignoring(isExpected: (error: unknown) => boolean): (error: unknown) => undefined {
  return (error) => {
    if (!isExpected(error)) {
      throw error;
    }
  };
}

/** Handles the failure of an operation on a file that may be missing. @throws the error, if it is not ENOENT */
export const unlessMissing = ignoring((error) => errnoOf(error) === "ENOENT");

/** Recognizes errors like Connect itself does, since they may come from another copy of the library. */
function isConnectError(error: unknown): error is ConnectError {
  return (
    error instanceof Error && error.name === "ConnectError" && "rawMessage" in error && "metadata" in error
  );
}

function kindOfConnectError(error: ConnectError): ErrorKind {
  const header = error.metadata.get(errorKindHeader);
  const carried = errorKinds.find((kind) => kind === header);
  return carried ?? kindOfCode[error.code] ?? "system";
}
