import { fromUnknown, SockerlessError } from "../../common/errors.ts";

/**
 * A driver's call failed, and what it was to make may be there all the same: its answer was lost, or what it made could
 * not be taken back. The engine keeps its record, so that the call is repeated or undone.
 */
export class UnsettledError extends SockerlessError {}

/** The same failure, as settled as it is, whose message begins with what was done. */
export function failureOf(what: string, error: unknown): SockerlessError {
  const { kind, message } = fromUnknown(error);
  const Failure = error instanceof UnsettledError ? UnsettledError : SockerlessError;
  return new Failure(kind, `${what}: ${message}`, error);
}
