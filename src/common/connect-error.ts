/** Errors as the backend's services answer them. */
import { Code, ConnectError } from "@connectrpc/connect";

import { type ErrorKind, errorKindHeader, fromUnknown } from "./errors.ts";

/** The code that stands for each kind on the wire. */
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

/** The most bytes of an error's words on the wire: HTTP/2 takes 64 KiB of one header. */
const mostBytes = 60_000;
/** Characters that fit into them, whatever they are. */
const fewestCharacters = Math.floor(mostBytes / "%F0%9F%98%80".length);

/** Any caught value as the `ConnectError` that a service throws; {@link fromUnknown} on the other side gives the same kind. */
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

/** Words that have room on the wire: of more, which no error of ours has without a client's own words in it, the beginning. */
function shortened(message: string): string {
  const isShort =
    message.length <= mostBytes && encodeURIComponent(message.toWellFormed()).length <= mostBytes;
  return (isShort ? message : `${message.slice(0, fewestCharacters)} …`).toWellFormed();
}
