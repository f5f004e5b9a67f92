/** How a call that failed is logged: in one line, or with where it came from. */
import { ConnectError } from "@connectrpc/connect";

import { errorKindHeader, fromUnknown, messageOf, requestIdOf, SockerlessError } from "./errors.ts";
import type { Logger } from "./logger.ts";

/**
 * Logs a call that failed with an error of kind `system`, or that another service refused. What was foreseen is one line with the reason; of anything
 * else the stack is shown too.
 *
 * @param values what was called, and what was answered
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
 * Whether the code that met an error chose a text for the user (a port that is taken, a registry that does not answer),
 * here or in the process that answered. A `TypeError`, a file of ours that is missing, a broken answer were not foreseen.
 */
function isForeseen(error: unknown): boolean {
  if (error instanceof SockerlessError) {
    // What was only converted on its way is as foreseen as it was before.
    const { cause } = error;
    return cause === undefined || messageOf(cause) !== error.message || isForeseen(cause);
  }
  return error instanceof ConnectError && error.metadata.has(errorKindHeader);
}
