/** The single place where a request's failure becomes an HTTP status and Docker's `{"message"}`. */
import { STATUS_CODES } from "node:http";

import { shortened } from "../common/connect-error.ts";
import { type ErrorKind, fromUnknown } from "../common/errors.ts";
import { maskSecrets } from "../common/mask-secrets.ts";

/** An error as sent to a client. */
export interface ErrorReply {
  readonly status: number;
  /** For people, without secrets. Clients match on it too, so it is dockerd's wording where dockerd has one. */
  readonly message: string;
}

const statusOfKind: Readonly<Record<ErrorKind, number>> = {
  "not-found": 404,
  conflict: 409,
  invalid: 400,
  "not-modified": 304,
  forbidden: 403,
  unauthorized: 401,
  unavailable: 503,
  "not-implemented": 501,
  system: 500,
};

/** The answer for a request that failed with a caught value. */
export function errorReply(error: unknown): ErrorReply {
  const { kind, message } = fromUnknown(error);
  const status = statusOfKind[kind];
  return { status, message: message === "" ? `${STATUS_CODES[status]}` : maskSecrets(shortened(message)) };
}

/** The body of an error, as dockerd writes it: one line of JSON. 304 has none. */
export function errorBody(reply: ErrorReply): string {
  return reply.status === 304 ? "" : `${JSON.stringify({ message: reply.message })}\n`;
}
