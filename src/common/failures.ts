/** Logging of failed calls: in one line, or with a stack. */
import { ConnectError } from "@connectrpc/connect";

import { errorKindHeader, fromUnknown, messageOf, requestIdOf, SockerlessError } from "./errors.ts";
import type { Logger } from "./logger.ts";

/**
 * Logs a call that failed with an error of kind `system`, or that another service refused: an expected failure in one
 * line with its reason, any other with its stack.
 *
 * @param values the call and its answer
 */
export function logFailure(
  logger: Logger,
  values: Readonly<Record<string, unknown>>,
  error: unknown,
  message: string,
): void {
  if (!isForeseen(error)) {
    logger.error({ ...values, err: error }, message);
    return;
  }
  const { message: reason, cause } = fromUnknown(error);
  const requestId = requestIdOf(error);
  const causeText = cause === undefined ? reason : messageOf(cause);
  logger.warn(
    {
      ...values,
      reason,
      ...(causeText === reason ? {} : { cause: causeText }),
      ...(requestId === undefined ? {} : { requestId }),
      ...(logger.isLevelEnabled("debug") ? { err: error } : {}),
    },
    message,
  );
}

/**
 * True if the code that met an error chose a text for the user (a port in use, a registry that does not answer), here
 * or in the answering process. A `TypeError`, a missing file of ours or a malformed answer is unexpected.
 */
function isForeseen(error: unknown): boolean {
  if (error instanceof SockerlessError) {
    // A conversion on the way does not make an error unexpected.
    const { cause } = error;
    return cause === undefined || messageOf(cause) !== error.message || isForeseen(cause);
  }
  return error instanceof ConnectError && error.metadata.has(errorKindHeader);
}
