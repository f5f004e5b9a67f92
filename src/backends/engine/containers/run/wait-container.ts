/** Waits for a container's exit or removal. */
import {
  WaitCondition,
  type WaitContainerRequest,
} from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import { conflict } from "../../../../common/errors.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../../context.ts";
import { findContainer } from "../decisions/lookup.ts";
import type { LiveContainer } from "../live/live.ts";
import { isActive, isNew, stateOf } from "../../../model/records.ts";
import { withScopedSignal } from "../../../concurrency/scoped-signal.ts";
import type { WaitResult } from "../live/waiters.ts";
import { startSettled } from "../start/start-under-way.ts";

/**
 * Milliseconds for a stopped container to be started, if a wait requires that: on a busy machine the next frontend,
 * which may have the request for the start, needs half of it to start up.
 */
const startPatienceMs = 20_000;

/** A wait that was accepted. */
export interface ContainerWait {
  readonly id: string;
  /** Time of the journal's last event: no later event is missed. */
  readonly sinceUnixNs: bigint;
  /** Rejects with the signal's reason. */
  readonly result: Promise<WaitResult>;
}

/**
 * Waits for a condition; registered when this returns. A continued wait also finds an end since its `sinceUnixNs`.
 *
 * @param signal ends the wait
 * @throws not-found
 */
export function waitForContainer(
  context: EngineContext,
  { container, condition, sinceUnixNs, needsStart }: WaitContainerRequest,
  signal: AbortSignal,
): ContainerWait {
  if (sinceUnixNs !== undefined) {
    const result = endSince(context, container, condition, sinceUnixNs);
    if (result !== undefined) {
      return { id: container, sinceUnixNs, result: Promise.resolve(result) };
    }
  }
  const record = findContainer(context.state, container);
  const live = context.live.of(record.id);
  const accepted = { id: record.id, sinceUnixNs: context.state.events.past().at(-1)?.timeUnixNs ?? 0n };
  const result = resultOf(context, live, record, condition, signal);
  return {
    ...accepted,
    result: needsStart ? onceStarted(context, record, condition, result, signal) : result,
  };
}

async function resultOf(
  context: EngineContext,
  live: LiveContainer,
  record: ContainerRecord,
  condition: WaitCondition,
  signal: AbortSignal,
): Promise<WaitResult> {
  const { waiters } = live;
  switch (condition) {
    case WaitCondition.REMOVED:
      return await waiters.removal(signal);
    case WaitCondition.NEXT_EXIT:
      return await waiters.nextExit(signal);
    default:
      return isActive(record)
        ? await waiters.nextExit(signal)
        : await endAfterStart(context, live, record, signal);
  }
}

/** The result if the container has been started, or is started soon. @throws conflict if it is not */
async function onceStarted(
  { state, clock, live: containers }: EngineContext,
  { id }: ContainerRecord,
  condition: WaitCondition,
  result: Promise<WaitResult>,
  signal: AbortSignal,
): Promise<WaitResult> {
  const live = containers.of(id);
  const isUnstarted = (): boolean => {
    const record = state.containers.get(id);
    return (
      record !== undefined && !isActive(record) && (isNew(record) || condition === WaitCondition.NEXT_EXIT)
    );
  };
  const refusedUnlessStarted = async (scope: AbortSignal): Promise<WaitResult> => {
    if (isUnstarted() && live.run.start === undefined) {
      await clock.sleep(startPatienceMs, scope);
    }
    await startSettled(live, scope);
    if (isUnstarted()) {
      throw conflict(`container ${id} was not started: the request for that may have been lost`);
    }
    return await result;
  };
  return await withScopedSignal(signal, async (scope) => {
    const started = refusedUnlessStarted(scope);
    started.catch(() => undefined); // Its rejection after the end of the wait has no other handler.
    return await Promise.race([result, started]);
  });
}

/**
 * The awaited end, if the journal has it after a given time; the container may be gone since.
 *
 * @param id the full ID
 * @returns undefined if it has not happened, or the journal does not reach back to it
 */
function endSince(
  { state }: EngineContext,
  id: string,
  condition: WaitCondition,
  sinceUnixNs: bigint,
): WaitResult | undefined {
  const later = state.events
    .past()
    .filter(
      ({ type, actorId, timeUnixNs }) => type === "container" && actorId === id && timeUnixNs > sinceUnixNs,
    );
  const removal = later.find(({ action }) => action === "destroy");
  const exit = condition === WaitCondition.REMOVED ? undefined : later.find(({ action }) => action === "die");
  const end = exit ?? removal;
  const exitCode = exit === undefined ? removal?.exitCode : exit.attributes["exitCode"];
  return end === undefined || exitCode === undefined
    ? undefined
    : { exitCode: Number(exitCode), error: end.error };
}

/** The end of a container that does not run: of its last run, or of the run that is being started. */
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
    const started = startSettled(live, scope).then(async () => {
      const record = context.state.containers.get(live.id) ?? found;
      return isActive(record) ? await exit : lastEnd(record);
    });
    return await Promise.race([exit, started]);
  });
}

function lastEnd(record: ContainerRecord): WaitResult {
  const { exitCode, error } = stateOf(record);
  return { exitCode, error };
}
