import { fromUnknown, SockerlessError } from "../../common/errors.ts";

/**
 * A failed call of a driver that may have created something all the same: its answer was lost, or the cleanup failed.
 * The engine keeps the record, so that the call is repeated or undone.
 */
export class UnsettledError extends SockerlessError {}

/** The same failure, and equally unsettled, with the failed action prefixed to its message. */
export function failureOf(what: string, error: unknown): SockerlessError {
  const { kind, message } = fromUnknown(error);
  const Failure = error instanceof UnsettledError ? UnsettledError : SockerlessError;
  return new Failure(kind, `${what}: ${message}`, error);
}

/** The same failure, as one behind which something may exist. */
export function unsettled(error: unknown): UnsettledError {
  const { kind, message } = fromUnknown(error);
  return new UnsettledError(kind, message, error);
}
