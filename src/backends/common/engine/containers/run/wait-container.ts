/** Waiting for a container. */
import { WaitCondition } from "../../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerRecord } from "../../../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../../context.ts";
import { findContainer } from "../decisions/lookup.ts";
import type { LiveContainer } from "../live/live.ts";
import { isActive, stateOf } from "../../../model/records.ts";
import { withScopedSignal } from "../../../concurrency/scoped-signal.ts";
import type { WaitResult } from "../live/waiters.ts";
import { startSettled } from "../start/start-under-way.ts";

/** A wait that was accepted. */
export interface ContainerWait {
  readonly id: string;
  /** Rejects with the signal's reason. */
  readonly result: Promise<WaitResult>;
}

/**
 * Waits for a condition; from the return on nothing is missed.
 *
 * @param signal ends the wait
 * @throws not-found
 */
export function waitForContainer(
  context: EngineContext,
  reference: string,
  condition: WaitCondition,
  signal: AbortSignal,
): ContainerWait {
  const record = findContainer(context.state, reference);
  const live = context.live.of(record.id);
  const { waiters } = live;
  switch (condition) {
    case WaitCondition.REMOVED:
      return { id: record.id, result: waiters.removal(signal) };
    case WaitCondition.NEXT_EXIT:
      return { id: record.id, result: waiters.nextExit(signal) };
    default:
      return {
        id: record.id,
        result: isActive(record) ? waiters.nextExit(signal) : endAfterStart(context, live, record, signal),
      };
  }
}

/** How a container that does not run has ended; one whose start is under way, how it ends. */
async function endAfterStart(
  context: EngineContext,
  live: LiveContainer,
  found: ContainerRecord,
  signal: AbortSignal,
): Promise<WaitResult> {
  if (live.run.start === undefined) {
    return lastEnd(found);
  }
  return await withScopedSignal(signal, async (scope) => {
    const exit = live.waiters.nextExit(scope);
    exit.catch(() => undefined); // Its rejection after the end of the wait has no other handler.
    const started = startSettled(live).then(async () => {
      const record = context.state.containers.get(live.id) ?? found;
      return isActive(record) ? await exit : lastEnd(record);
    });
    return await Promise.race([exit, started]);
  });
}

function lastEnd(record: ContainerRecord): WaitResult {
  return { exitCode: stateOf(record).exitCode, error: "" };
}
