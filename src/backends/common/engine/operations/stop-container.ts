/** Signals, stopping and restarting. */
import { Code, ConnectError } from "@connectrpc/connect";

import { fromUnknown, isErrorKind, SockerlessError, systemError } from "../../../../common/errors.ts";
import { ContainerStatus } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../context.ts";
import { containerEvent } from "../events/container-events.ts";
import type { LiveContainer } from "../live.ts";
import { containerOfId, findContainer } from "../lookup.ts";
import { processRefusal, stopRefusal } from "../machine/refusals.ts";
import { configOf, hasProcess, stateOf, withFields, withState } from "../records.ts";
import { parseSignal, sigkill, sigterm } from "../signals.ts";
import { startContainer } from "./start-container.ts";

/** How long a stopped container has, where nobody says. */
const defaultTimeoutSeconds = 10;
/** How long the end of a killed process is awaited. */
const killTimeoutMs = 10_000;
/** How long an agent may take to answer. */
const callTimeoutMs = 10_000;

/** What is asked of a stop. */
export interface StopOptions {
  /** -1: for ever; undefined: the container's. */
  readonly timeoutSeconds?: number | undefined;
  /** Empty: the container's. */
  readonly signal: string;
}

/**
 * Stops a container and answers once it has exited. Goes on when the client leaves.
 *
 * @throws not-found; not-modified: it does not run; invalid: the signal
 */
export async function stopContainer(
  context: EngineContext,
  reference: string,
  options: StopOptions,
): Promise<void> {
  const record = findContainer(context.state, reference);
  const refusal = stopRefusal(record);
  if (refusal !== undefined) {
    throw refusal;
  }
  await named(`cannot stop container: ${reference}`, () => endRun(context, record, options));
}

/**
 * Sends a signal; KILL is answered once the container has exited.
 *
 * @param signal name or number; empty: KILL
 * @throws not-found; conflict: it does not run; invalid: the signal
 */
export async function signalContainer(
  context: EngineContext,
  reference: string,
  signal: string,
): Promise<void> {
  await named(`cannot kill container: ${reference}`, async () => {
    const number = signal === "" ? sigkill : parseSignal(signal);
    const record = findContainer(context.state, reference);
    if (number === sigkill) {
      await killContainer(context, record);
    } else {
      await sendSignal(context, context.live.of(record.id), number);
    }
  });
}

/** Stops a container, if it runs, and starts it. @throws not-found; what the start throws */
export async function restartContainer(
  context: EngineContext,
  reference: string,
  options: StopOptions,
): Promise<void> {
  const record = findContainer(context.state, reference);
  const live = context.live.of(record.id);
  await named(`Cannot restart container ${reference}`, async () => {
    if (stopRefusal(record) === undefined) {
      live.restarting = true;
      try {
        await endRun(context, record, options);
      } finally {
        live.restarting = false;
      }
    }
    try {
      await startContainer(context, record.id);
    } catch (error) {
      if (!isErrorKind(error, "not-modified")) {
        throw error;
      }
    }
  });
  await context.state.commit((change) =>
    change.event(containerEvent(context.state.containers.get(record.id) ?? record, "restart")),
  );
}

/** Kills a container and waits until its end is recorded. @throws conflict: it does not run */
export async function killContainer(context: EngineContext, record: ContainerRecord): Promise<void> {
  const live = context.live.of(record.id);
  if (stateOf(record).status === ContainerStatus.RESTARTING) {
    await settleRestarting(context, live);
    return;
  }
  const exit = exitOf(context, live);
  try {
    await sendSignal(context, live, sigkill);
    if (!(await exit.within(killTimeoutMs))) {
      throw systemError("tried to kill container, but did not receive an exit event");
    }
  } finally {
    exit.cancel();
  }
}

/** No restart by policy comes any more. */
export function endRestarts(live: LiveContainer): void {
  live.pendingRestart?.abort();
  live.pendingRestart = undefined;
}

async function endRun(context: EngineContext, record: ContainerRecord, options: StopOptions): Promise<void> {
  const config = configOf(record);
  const signal = signalOf(options.signal || config.stopSignal);
  const timeout = options.timeoutSeconds ?? config.stopTimeout ?? defaultTimeoutSeconds;
  const live = context.live.of(record.id);
  if (stateOf(record).status === ContainerStatus.RESTARTING) {
    await settleRestarting(context, live);
  } else {
    const exit = exitOf(context, live);
    try {
      await sendSignal(context, live, signal).catch(ignoreNotRunning);
      if (!(await exit.within(timeout < 0 ? undefined : timeout * 1000))) {
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

/** A container that waits for its policy's restart is stopped by not restarting it. */
async function settleRestarting(context: EngineContext, live: LiveContainer): Promise<void> {
  endRestarts(live);
  await live.lock.run(async () => {
    const record = containerOfId(context.state, live.id);
    if (stateOf(record).status === ContainerStatus.RESTARTING) {
      const settled = withState(withFields(record, { stoppedByUser: true }), {
        status: ContainerStatus.EXITED,
      });
      await context.state.commit((change) => change.containers.put(settled));
    }
  });
}

async function sendSignal(context: EngineContext, live: LiveContainer, signal: number): Promise<void> {
  await live.lock.run(async () => {
    const record = containerOfId(context.state, live.id);
    const refusal = processRefusal(record);
    const { link } = live;
    if (refusal !== undefined) {
      throw refusal;
    }
    if (link !== undefined) {
      try {
        await link.agent.client.signal({ signal }, { timeoutMs: callTimeoutMs });
        if (stateOf(record).status === ContainerStatus.PAUSED) {
          await link.agent.client.resume({}, { timeoutMs: callTimeoutMs });
        }
      } catch (error) {
        // The process is on its way out: its exit is about to be told.
        if (!(error instanceof ConnectError) || error.code !== Code.FailedPrecondition) {
          throw error;
        }
      }
    }
    await context.state.commit((change) => {
      change.containers.put(withFields(record, { stoppedByUser: true }));
      change.event(containerEvent(record, "kill", { signal: String(signal) }));
    });
  });
}

/** The next exit of a container, listened for from now on. */
function exitOf(context: EngineContext, live: LiveContainer) {
  const controller = new AbortController();
  const signal = AbortSignal.any([controller.signal, context.shutdown]);
  const exited = live.waiters.nextExit(signal).then(
    () => true,
    () => false,
  );
  const record = context.state.containers.get(live.id);
  const isOver = record === undefined || !hasProcess(record);
  return {
    /** @param ms undefined: for ever. @returns whether it exited in time */
    within: async (ms: number | undefined): Promise<boolean> => {
      if (isOver) {
        return true;
      }
      const timer =
        ms === undefined
          ? []
          : [
              context.clock.sleep(ms, signal).then(
                () => false,
                () => exited,
              ),
            ];
      const inTime = await Promise.race([exited, ...timer]);
      if (!inTime && context.shutdown.aborted) {
        throw context.shutdown.reason;
      }
      return inTime;
    },
    /** Stops listening. */
    cancel: (): void => controller.abort(),
  };
}

function signalOf(text: string): number {
  return text === "" ? sigterm : parseSignal(text);
}

/** For a rejection: the container ended by itself in the meantime, which is what was wanted. */
export function ignoreNotRunning(error: unknown): void {
  if (!isErrorKind(error, "conflict") && !isErrorKind(error, "not-found")) {
    throw error;
  }
}

/** Puts before an error's message what was to be done; a 304 stays as it is. */
async function named<T>(what: string, task: () => Promise<T>): Promise<T> {
  try {
    return await task();
  } catch (error) {
    const { kind, message } = fromUnknown(error);
    throw kind === "not-modified" ? error : new SockerlessError(kind, `${what}: ${message}`, error);
  }
}
