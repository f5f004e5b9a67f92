/** What the log says of the calls to a backend. */
import type { DescMethod } from "@bufbuild/protobuf";
import type { Logger } from "pino";

import { fromUnknown, requestIdOf } from "../../common/errors.ts";
import { logFailure } from "../../common/failures.ts";

/**
 * One line for a call, to be told when it ends; what nobody foresaw with where it came from.
 *
 * @param signal aborts when the caller leaves
 * @returns takes what the call failed with, or nothing
 */
export function callReport(
  logger: Logger,
  method: DescMethod,
  signal: AbortSignal,
): (...failed: [error?: unknown]) => void {
  const started = performance.now();
  return (...failed) => {
    const call = {
      method: `${method.parent.typeName}/${method.name}`,
      ms: Math.round((performance.now() - started) * 10) / 10,
    };
    if (failed.length === 0) {
      logger.debug({ ...call, status: "ok" }, "call");
      return;
    }
    if (signal.aborted) {
      logger.debug({ ...call, status: "canceled" }, "the caller left");
      return;
    }
    const [error] = failed;
    const failure = fromUnknown(error);
    // A refusal of the cloud is told whatever it means to the caller.
    if (failure.kind === "system" || requestIdOf(error) !== undefined) {
      logFailure(logger, { ...call, status: failure.kind }, error, "call failed");
    } else {
      logger.debug({ ...call, status: failure.kind, reason: failure.message }, "call refused");
    }
  };
}
