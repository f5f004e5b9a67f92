/** The errors of the backend's services. */
import { Code, ConnectError } from "@connectrpc/connect";

import { type ErrorKind, errorKindHeader, fromUnknown } from "./errors.ts";

/** The Connect code of each kind. */
const codeOfKind: Readonly<Record<ErrorKind, Code>> = {
  "not-found": Code.NotFound,
  conflict: Code.AlreadyExists,
  invalid: Code.InvalidArgument,
  "not-modified": Code.FailedPrecondition,
  forbidden: Code.PermissionDenied,
  unauthorized: Code.Unauthenticated,
  unavailable: Code.Unavailable,
  "not-implemented": Code.Unimplemented,
  system: Code.Internal,
};

/** The most bytes of an error message in a response: HTTP/2 limits a header to 64 KiB. */
const mostBytes = 60_000;
/** Characters that always fit into these bytes, however they are encoded. */
const fewestCharacters = Math.floor(mostBytes / "%F0%9F%98%80".length);

/**
 * Converts any caught value to a `ConnectError` for a service to throw; {@link fromUnknown} restores the same kind at
 * the caller.
 */
export function toConnectError(error: unknown): ConnectError {
  const { kind, message } = fromUnknown(error);
  return new ConnectError(
    shortened(message),
    codeOfKind[kind],
    { [errorKindHeader]: kind },
    undefined,
    error,
  );
}

/** Truncates an error's message to what a header holds. Only messages that quote a client's text are longer. */
export function shortened(message: string): string {
  const isShort =
    message.length <= mostBytes && encodeURIComponent(message.toWellFormed()).length <= mostBytes;
  return (isShort ? message : `${message.slice(0, fewestCharacters)} …`).toWellFormed();
}
