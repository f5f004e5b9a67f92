/** Stopping and restarting. */
import { isErrorKind } from "../../../../common/errors.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../../context.ts";
import { containerEvent } from "../../events/decisions/container-events.ts";
import { findContainer } from "../decisions/lookup.ts";
import { stopRefusal } from "../decisions/life/refusals.ts";
import { configOf } from "../../../model/records.ts";
import { parseSignal, sigterm } from "../../../model/signals.ts";
import { withErrorPrefix } from "../../work/error-prefix.ts";
import { listenForExit } from "./exit-listener.ts";
import { ignoreNotRunning, killContainer } from "./kill-container.ts";
import { settleRestarting } from "../start/pending-restart.ts";
import { noteSignal } from "./send-signal.ts";
import { sendStopSignal } from "./send-stop-signal.ts";
import { type FrontendPorts, startContainer } from "../start/start-container.ts";
import { containerOnceStarted, endStart, repeatedStart } from "../start/start-under-way.ts";

/** How long a stopped container has, where nobody says. */
const defaultTimeoutSeconds = 10;

/** Options of `docker stop` and `docker restart`. */
export interface StopOptions {
  /** -1: for ever; undefined: the container's. */
  readonly timeoutSeconds?: number | undefined;
  /** Empty: the container's. */
  readonly signal: string;
}

/** Options of `docker restart`. */
export interface RestartOptions extends StopOptions {
  /** As for a start. */
  readonly clientToken?: string | undefined;
}

/**
 * Stops a container and answers once it has exited; a start that is under way is ended where its launch may take long, or
 * waits for room on the platform, and else waited for. Goes on when the client leaves; only an agent that is away is not
 * waited for for ever then.
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
 * Stops a container, if it runs, and starts it. Goes on without the client as {@link stopContainer} does, once no start is
 * under way, for which it waits only with the client.
 *
 * @param left the client has left
 * @param ports as for a start
 * @throws not-found; what the start throws
 */
export async function restartContainer(
  context: EngineContext,
  reference: string,
  { clientToken = "", ...options }: RestartOptions,
  left: AbortSignal,
  ports?: FrontendPorts,
): Promise<void> {
  const repeated = repeatedStart(
    context.live.of(findContainer(context.state, reference).id),
    clientToken,
    left,
  );
  if (repeated !== undefined) {
    await repeated;
    return;
  }
  const record = await containerOnceStarted(context, reference, left, "wait");
  if (clientToken !== "" && record.startToken === clientToken) {
    return; // As a start's.
  }
  const live = context.live.of(record.id);
  await withErrorPrefix(`Cannot restart container ${reference}`, async () => {
    try {
      if (stopRefusal(record) === undefined) {
        const order = stopOrder(record, options);
        live.run.endForRestart();
        await endRun(context, record, order, left);
      }
      await startContainer(context, record.id, "user", ports, left, { clientToken });
    } catch (error) {
      if (!isErrorKind(error, "not-modified")) {
        throw error;
      }
    } finally {
      live.run.endRestart();
    }
  });
  await context.state.commit((change) =>
    change.event(containerEvent(context.state.containers.get(record.id) ?? record, "restart")),
  );
}

/** A stop of one container: the options, with the container's own settings for those that are not given. */
interface StopOrder {
  /** Linux number. */
  readonly signal: number;
  /** Seconds; negative: for ever. */
  readonly timeout: number;
}

/** @throws invalid: the signal */
function stopOrder(record: ContainerRecord, options: StopOptions): StopOrder {
  const config = configOf(record);
  return {
    signal: signalOf(options.signal || config.stopSignal),
    timeout: options.timeoutSeconds ?? config.stopTimeout ?? defaultTimeoutSeconds,
  };
}

async function endRun(
  context: EngineContext,
  record: ContainerRecord,
  { signal, timeout }: StopOrder,
  left: AbortSignal,
): Promise<void> {
  const graceMs = timeout < 0 ? undefined : timeout * 1000;
  const live = context.live.of(record.id);
  const noted = (await settleRestarting(context, live))
    ? undefined
    : await noteSignal(context, live, signal, true).catch(ignoreNotRunning);
  if (noted !== undefined) {
    const exit = listenForExit(context, live, noted.generation);
    try {
      await sendStopSignal(context, live, noted, exit, graceMs, left).catch(ignoreNotRunning);
      if (!(await exit.within(graceMs))) {
        context.logger.info(
          { container: record.id, signal, timeout },
          "the container did not end at its stop signal; it is killed",
        );
        await killContainer(context, record).catch(ignoreNotRunning);
      }
    } finally {
      exit.cancel();
    }
  }
  await context.state.commit((change) =>
    change.event(containerEvent(context.state.containers.get(record.id) ?? record, "stop")),
  );
}

function signalOf(text: string): number {
  return text === "" ? sigterm : parseSignal(text);
}
