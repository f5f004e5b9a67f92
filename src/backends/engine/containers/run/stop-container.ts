/** Stops a container: the steps in order. */
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import { configOf } from "../../../model/records.ts";
import { parseSignal, stopSignalOf } from "../../../model/signals.ts";
import type { EngineContext } from "../../context.ts";
import { containerEvent } from "../../events/decisions/container-events.ts";
import { withErrorPrefix } from "../../work/error-prefix.ts";
import { stopRefusal } from "../decisions/life/refusals.ts";
import { findContainer } from "../decisions/lookup.ts";
import type { LiveContainer } from "../live/live.ts";
import { settleRestarting } from "../start/pending-restart.ts";
import { endStart } from "../start/start-under-way.ts";
import { type Verb, performSteps } from "../../work/steps.ts";
import { type ExitListener, listenForExit } from "./exit-listener.ts";
import { ignoreNotRunning, killContainer } from "./kill-container.ts";
import { type NotedSignal, noteSignal } from "./send-signal.ts";
import { sendStopSignal } from "./send-stop-signal.ts";

/** Default stop timeout. */
const defaultTimeoutSeconds = 10;

/** Options of `docker stop` and `docker restart`. */
export interface StopOptions {
  /** Seconds; -1 for no limit; undefined for the container's setting. */
  readonly timeoutSeconds?: number | undefined;
  /** Empty for the container's stop signal. */
  readonly signal: string;
}

/**
 * Stops a container and returns once it has exited. A start in progress is cancelled if its launch may take long or
 * waits for capacity on the platform, else waited for. Continues when the client leaves, but then does not wait without
 * limit for an unreachable agent, nor beside another such stop or kill.
 *
 * @param left the client has left
 * @throws not-found; not-modified: it does not run; invalid: the signal
 */
export async function stopContainer(
  context: EngineContext,
  reference: string,
  options: StopOptions,
  left: AbortSignal,
): Promise<void> {
  const found = findContainer(context.state, reference);
  const live = context.live.of(found.id);
  if (live.run.start === undefined) {
    requireRun(found);
  }
  await withErrorPrefix(`cannot stop container: ${reference}`, async () => {
    const order = stopOrder(found, options); // An order that is refused stands in for no other that was left.
    using others = live.leftStops.add(killTimeMs(context, order.timeout), left);
    if (await endStart(context, live, "stopped", others.superseded)) {
      return;
    }
    const record = context.state.containers.get(found.id) ?? found;
    requireRun(record);
    await endRun(context, record, order, left, others.superseded);
  });
}

/** @throws not-modified: it does not run */
function requireRun(record: ContainerRecord): void {
  const refusal = stopRefusal(record);
  if (refusal !== undefined) {
    throw refusal;
  }
}

/** State shared by the steps of one stop. */
interface Stop {
  readonly context: EngineContext;
  readonly live: LiveContainer;
  readonly record: ContainerRecord;
  readonly order: StopOrder;
  readonly left: AbortSignal;
  readonly superseded: AbortSignal | undefined;
  /** The signal to the run, and the listener for its end; undefined if nothing runs. */
  run: { readonly signal: NotedSignal; readonly exit: ExitListener } | undefined;
  isOver: boolean;
}

/**
 * The steps of a stop, until the end of the run is recorded. After the first, no policy restarts the container, even in
 * a later process of the backend; another stop repeats all of them.
 */
export const stopSteps: Verb<Stop> = {
  name: "stop",
  steps: [
    { name: "note", run: note },
    { name: "signal", run: signal },
    { name: "wait", run: awaitEnd },
    { name: "kill", run: kill },
    { name: "record", run: recordStop },
  ],
};

/**
 * Ends a run by the steps of a stop.
 *
 * @param superseded aborts when its client has left and another call does the same
 */
export async function endRun(
  context: EngineContext,
  record: ContainerRecord,
  order: StopOrder,
  left: AbortSignal,
  superseded?: AbortSignal,
): Promise<void> {
  const live = context.live.of(record.id);
  const stop: Stop = { context, live, record, order, left, superseded, run: undefined, isOver: false };
  try {
    await performSteps(stopSteps, stop);
  } finally {
    stop.run?.exit[Symbol.dispose]();
  }
}

/** Journals that a user ends the run, or cancels a pending restart by policy. */
async function note(stop: Stop): Promise<void> {
  const { context, live, order, superseded } = stop;
  const noted = (await settleRestarting(context, live, superseded))
    ? undefined
    : await noteSignal(context, live, order.signal, true, superseded).catch(ignoreNotRunning);
  stop.run = noted && { signal: noted, exit: listenForExit(context, live, noted.generation) };
}

async function signal({ context, live, order, run, left, superseded }: Stop): Promise<void> {
  if (run !== undefined) {
    const { signal: noted, exit } = run;
    await sendStopSignal(context, live, noted, exit, graceMsOf(order), left, superseded).catch(
      ignoreNotRunning,
    );
  }
}

async function awaitEnd(stop: Stop): Promise<void> {
  const { run, order, superseded } = stop;
  stop.isOver = run === undefined || (await run.exit.within(graceMsOf(order), superseded));
  if (!stop.isOver) {
    superseded?.throwIfAborted();
  }
}

/** Kills a process that did not end at its stop signal. */
async function kill({ context, record, order, isOver, superseded }: Stop): Promise<void> {
  if (isOver) {
    return;
  }
  context.logger.info(
    { container: record.id, ...order },
    "the container did not end at its stop signal; it is killed",
  );
  await killContainer(context, record, superseded).catch(ignoreNotRunning);
}

async function recordStop({ context, live, record }: Stop): Promise<void> {
  await live.stopEvents.run(() =>
    context.state.commit((change) =>
      change.event(containerEvent(context.state.containers.get(record.id) ?? record, "stop")),
    ),
  );
}

/** Time at which a stop that begins now kills, in milliseconds since the epoch. */
export function killTimeMs({ clock }: EngineContext, timeout: number): number {
  return clock.nowMs() + (graceMsOf({ timeout }) ?? Number.POSITIVE_INFINITY);
}

/** Time that the process has after its stop signal; undefined for no limit. */
function graceMsOf({ timeout }: Pick<StopOrder, "timeout">): number | undefined {
  return timeout < 0 ? undefined : timeout * 1000;
}

/** The options of a stop, with the container's settings as defaults. */
export interface StopOrder {
  /** Linux number. */
  readonly signal: number;
  /** Seconds; negative for no limit. */
  readonly timeout: number;
}

/** @throws invalid: the signal */
export function stopOrder(record: ContainerRecord, options: StopOptions): StopOrder {
  return {
    signal: options.signal === "" ? stopSignalOf(configOf(record)) : parseSignal(options.signal),
    timeout: stopTimeout(record, options),
  };
}

/** In seconds; negative for no limit. */
function stopTimeout(record: ContainerRecord, { timeoutSeconds }: StopOptions): number {
  return timeoutSeconds ?? configOf(record).stopTimeout ?? defaultTimeoutSeconds;
}
