/** Stopping a container: its steps in order. */
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import { configOf } from "../../../model/records.ts";
import { parseSignal, sigterm } from "../../../model/signals.ts";
import type { EngineContext } from "../../context.ts";
import { containerEvent } from "../../events/decisions/container-events.ts";
import { withErrorPrefix } from "../../work/error-prefix.ts";
import { stopRefusal } from "../decisions/life/refusals.ts";
import { findContainer } from "../decisions/lookup.ts";
import type { LiveContainer } from "../live/live.ts";
import { settleRestarting } from "../start/pending-restart.ts";
import { endStart } from "../start/start-under-way.ts";
import { listenForExit } from "./exit-listener.ts";
import { ignoreNotRunning, killContainer } from "./kill-container.ts";
import { noteSignal } from "./send-signal.ts";
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
 * limit for an unreachable agent.
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
  if (await endStart(context, context.live.of(found.id), "stopped")) {
    return;
  }
  const record = context.state.containers.get(found.id) ?? found;
  const refusal = stopRefusal(record);
  if (refusal !== undefined) {
    throw refusal;
  }
  await withErrorPrefix(`cannot stop container: ${reference}`, () =>
    endRun(context, record, stopOrder(record, options), left),
  );
}

/**
 * The steps of a stop, until the end of the run is recorded. The user's signal is its journal entry: if the backend
 * dies after that, no policy restarts the container, and the next stop repeats the steps from the first.
 */
export async function endRun(
  context: EngineContext,
  record: ContainerRecord,
  order: StopOrder,
  left: AbortSignal,
): Promise<void> {
  const live = context.live.of(record.id);
  if (!(await settleRestarting(context, live))) {
    await endProcess(context, live, record, order, left).catch(ignoreNotRunning);
  }
  await recordStop(context, record);
}

/**
 * Ends a process by its stop signal, and by SIGKILL after the timeout.
 *
 * @throws conflict, not-found: it has ended meanwhile
 */
async function endProcess(
  context: EngineContext,
  live: LiveContainer,
  record: ContainerRecord,
  { signal, timeout }: StopOrder,
  left: AbortSignal,
): Promise<void> {
  const graceMs = timeout < 0 ? undefined : timeout * 1000;
  const noted = await noteSignal(context, live, signal, true);
  using exit = listenForExit(context, live, noted.generation);
  await sendStopSignal(context, live, noted, exit, graceMs, left).catch(ignoreNotRunning);
  if (!(await exit.within(graceMs))) {
    context.logger.info(
      { container: record.id, signal, timeout },
      "the container did not end at its stop signal; it is killed",
    );
    await killContainer(context, record);
  }
}

async function recordStop(context: EngineContext, record: ContainerRecord): Promise<void> {
  await context.state.commit((change) =>
    change.event(containerEvent(context.state.containers.get(record.id) ?? record, "stop")),
  );
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
  const config = configOf(record);
  return {
    signal: signalOf(options.signal || config.stopSignal),
    timeout: options.timeoutSeconds ?? config.stopTimeout ?? defaultTimeoutSeconds,
  };
}

function signalOf(text: string): number {
  return text === "" ? sigterm : parseSignal(text);
}
