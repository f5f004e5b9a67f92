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

/** Any caught value as the `ConnectError` that a service throws; {@link fromUnknown} on the other side gives the same kind. */
export function toConnectError(error: unknown): ConnectError {
  const { kind, message } = fromUnknown(error);
  return new ConnectError(message, codeOfKind[kind], { [errorKindHeader]: kind }, undefined, error);
}
