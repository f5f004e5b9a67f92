/** Waiting for a container. */
import { WaitCondition } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { EngineContext } from "../context.ts";
import { findContainer } from "../lookup.ts";
import { isActive, stateOf } from "../records.ts";
import type { WaitResult } from "../waiters.ts";

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
  const { waiters } = context.live.of(record.id);
  switch (condition) {
    case WaitCondition.REMOVED:
      return { id: record.id, result: waiters.removal(signal) };
    case WaitCondition.NEXT_EXIT:
      return { id: record.id, result: waiters.nextExit(signal) };
    default:
      return {
        id: record.id,
        result: isActive(record)
          ? waiters.nextExit(signal)
          : Promise.resolve({ exitCode: stateOf(record).exitCode, error: "" }),
      };
  }
}
