/** Log lines and reports of calls to a backend: one per call, at its end. */
import type { DescMethod } from "@bufbuild/protobuf";
import type { Logger } from "pino";

import { fromUnknown, requestIdOf } from "../../common/errors.ts";
import { logFailure } from "../../common/failures.ts";
import { backendCalled } from "../../common/metrics/measure.ts";

/**
 * Prepares the log line of a call that begins now; an unexpected failure is logged with its stack.
 *
 * @param signal aborts if the caller disconnects
 * @returns function to call at the end, with the error if the call failed
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
    const end = (outcome: string): void => backendCalled.report(() => ({ method: call.method, outcome }));
    if (failed.length === 0) {
      end("ok");
      logger.debug({ ...call, status: "ok" }, "call");
      return;
    }
    if (signal.aborted) {
      end("canceled");
      logger.debug({ ...call, status: "canceled" }, "the caller left");
      return;
    }
    const [error] = failed;
    const failure = fromUnknown(error);
    end(failure.kind);
    // A request refused by the cloud, known by its request ID, is logged whatever kind of error the caller gets.
    if (failure.kind === "system" || requestIdOf(error) !== undefined) {
      logFailure(logger, { ...call, status: failure.kind }, error, "call failed");
    } else {
      logger.debug({ ...call, status: failure.kind, reason: failure.message }, "call refused");
    }
  };
}
