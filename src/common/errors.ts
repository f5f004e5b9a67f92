/**
 * The errors of sockerless: a closed set of kinds, converted once on entry (a Node, Connect or cloud error becomes a
 * {@link SockerlessError}) and once on exit (the backend's services answer a `ConnectError`, the frontend an HTTP
 * status).
 *
 * Between processes the kind travels as a Connect code plus the metadata header `sockerless-error-kind`, because there
 * are kinds that gRPC has no code for. A peer that does not send the header (another language's client library, a
 * proxy on the way) is understood by its code alone.
 */
// Types alone: the supervisor loads none of the code of calls.
import type { Code, ConnectError } from "@connectrpc/connect";

/** Every kind of error there is. `system` is what remains: a fault of ours or of the machine, never of the caller. */
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
   * One sentence on what to do, if everything fails alike until that is done: the check that meets it first logs it, and
   * who else does need not.
   */
  get remedy(): string | undefined {
    return undefined;
  }
}

/** The remedy of an error, which is told apart from it; undefined: it has none, and the error is news. */
export function remedyOf(error: unknown): string | undefined {
  return error instanceof SockerlessError ? error.remedy : undefined;
}

/** Something that was named does not exist. */
export const notFound = constructorOf("not-found");
/** The state of the object forbids the request: a name in use, a container that is not running. */
export const conflict = constructorOf("conflict");
/** The request is malformed or asks for what cannot be. */
export const invalid = constructorOf("invalid");
/** The object is already as asked for; HTTP answers 304. */
export const notModified = constructorOf("not-modified");
/** Understood and refused, whoever asks. */
export const forbidden = constructorOf("forbidden");
/** The credentials are missing or wrong. */
export const unauthorized = constructorOf("unauthorized");
/** Something that is needed to answer cannot be reached now; the same request may succeed later. */
export const unavailable = constructorOf("unavailable");
/** This backend cannot do it; the message names the feature and the backend. */
export const notImplemented = constructorOf("not-implemented");
/** A fault of ours or of the machine. */
export const systemError = constructorOf("system");

function constructorOf(kind: ErrorKind): (message: string, cause?: unknown) => SockerlessError {
  return (message, cause) => new SockerlessError(kind, message, cause);
}

/**
 * The kind of a Connect error whose peer sent no header. FailedPrecondition means a conflict to everyone but us; Aborted is
 * how the library tells a connection that was reset in the middle of a stream. Canceled, DeadlineExceeded and DataLoss say
 * nothing about the request, so they are `system`, as in moby.
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

/** The failures of a connection: the peer is away, whatever was asked of it. */
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
 * Any caught value as a {@link SockerlessError}; the original is kept as `cause`. A file-system errno is `system` here,
 * because a file of ours that is missing must not become a 404 to the user: see {@link fromFileError}.
 */
export function fromUnknown(error: unknown): SockerlessError {
  if (error instanceof SockerlessError) {
    return error;
  }
  if (isConnectError(error)) {
    // A peer that gives no reason has failed nonetheless: then the code is told.
    return new SockerlessError(kindOfConnectError(error), error.rawMessage || error.message, error);
  }
  if (error instanceof Error) {
    const kind = unavailableErrnos.has(errnoOf(error) ?? "") ? "unavailable" : "system";
    return new SockerlessError(kind, error.message, error);
  }
  return new SockerlessError("system", String(error), error);
}

/**
 * The failure of a file operation on a path that the *user* named, with the kind that the errno means to him
 * (ENOENT is not-found, EEXIST conflict, EACCES forbidden).
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

/** The plain data of any caught value, for a message to another thread. */
export function toErrorData(error: unknown): ErrorData {
  const { kind, message } = fromUnknown(error);
  return { kind, message };
}

/** True if a caught value is, or arrives as, an error of this kind. */
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
 * The ID by which a service that refused a request knows it (AWS's support asks for it), wherever in a caught value's
 * causes it stands.
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

/** As Connect itself tells its errors, which may come from another copy of it. */
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
