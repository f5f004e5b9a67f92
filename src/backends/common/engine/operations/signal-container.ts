/** Signals to a container's main process. */
import { Code, ConnectError } from "@connectrpc/connect";

import { fromUnknown, isErrorKind, SockerlessError, systemError } from "../../../../common/errors.ts";
import { newId } from "../../../../common/ids.ts";
import { ContainerStatus } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../context.ts";
import { containerEvent } from "../events/container-events.ts";
import type { LiveContainer } from "../live.ts";
import { containerOfId, findContainer } from "../lookup.ts";
import { processRefusal } from "../machine/refusals.ts";
import { resumed } from "../machine/transitions.ts";
import { configOf, hasProcess, stateOf, withFields, withState } from "../records.ts";
import { parseSignal, sigkill } from "../signals.ts";
import { buryLost } from "./lost-container.ts";

/** How long the end of a killed process is awaited. */
const killTimeoutMs = 10_000;
/** How long an agent may take to answer. */
const callTimeoutMs = 10_000;
/** The same where the driver can end a run past it. */
const endableCallTimeoutMs = 5_000;
/** Between attempts to reach an agent. */
const retryPauseMs = 1_000;
/** How long a run that is ended past its agent may take: its stop timeout, and what the platform adds. */
const endTimeoutMs = 180_000;

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
  await withErrorPrefix(`cannot kill container: ${reference}`, async () => {
    const number = signal === "" ? sigkill : parseSignal(signal);
    const record = findContainer(context.state, reference);
    if (number === sigkill) {
      await killContainer(context, record);
    } else {
      await sendSignal(context, context.live.of(record.id), number, isStopSignal(record, number));
    }
  });
}

/** Kills a container and waits until its end is recorded. @throws conflict: it does not run */
export async function killContainer(context: EngineContext, record: ContainerRecord): Promise<void> {
  const live = context.live.of(record.id);
  if (await settleRestarting(context, live)) {
    return;
  }
  const exit = listenForExit(context, live);
  try {
    await sendSignal(context, live, sigkill, true).catch((error: unknown) =>
      endPastAgent(context, live, record.generation, sigkill, error),
    );
    if (!(await exit.within(killTimeoutMs))) {
      throw systemError("tried to kill container, but did not receive an exit event");
    }
  } finally {
    exit.cancel();
  }
}

/**
 * Sends the signal at which a container is to end in its own time. Where the driver can end runs past their agents, an
 * agent that cannot be reached is tried again as long as the container may take to end: a task that is stopped has less
 * time.
 *
 * @param exit listened for since before
 * @param graceMs undefined: for ever
 * @throws conflict: it does not run
 */
export async function sendStopSignal(
  context: EngineContext,
  live: LiveContainer,
  { generation }: ContainerRecord,
  signal: number,
  exit: ReturnType<typeof listenForExit>,
  graceMs: number | undefined,
): Promise<void> {
  const deadlineMs = context.clock.nowMs() + (graceMs ?? Number.POSITIVE_INFINITY);
  const clientToken = newId();
  for (;;) {
    try {
      await sendSignal(context, live, signal, true, clientToken);
      return;
    } catch (error) {
      const leftMs = deadlineMs - context.clock.nowMs();
      if (!isAway(error) || context.driver.workloads.end === undefined || leftMs <= 0) {
        await endPastAgent(context, live, generation, signal, error);
        return;
      }
      context.logger.debug({ err: error, container: live.id }, "a stop signal could not be sent yet");
      if (await exit.within(Math.min(retryPauseMs, leftMs))) {
        return;
      }
    }
  }
}

/**
 * For a rejection of {@link sendSignal} with a signal that is to end the container: the agent cannot be reached. Where
 * the driver can end its run past it, that is done and the end recorded; elsewhere a silent agent is gone, and so is the
 * container.
 */
export async function endPastAgent(
  context: EngineContext,
  live: LiveContainer,
  generation: bigint,
  signal: number,
  error: unknown,
): Promise<void> {
  if (!isAway(error)) {
    throw error;
  }
  const { workloads } = context.driver;
  if (workloads.end === undefined) {
    return;
  }
  const isRunning = await live.lock.run(async () => {
    const record = context.state.containers.get(live.id);
    if (record === undefined || record.generation !== generation || !hasProcess(record)) {
      return false;
    }
    // Before it ends: whoever finds it ended after a crash must know that a user wanted it so.
    await noteSignal(context, record, signal, false);
    return true;
  });
  if (!isRunning) {
    return; // It ended by itself in the meantime.
  }
  context.logger.warn({ container: live.id }, "a container is ended past its agent, which does not answer");
  await workloads.end(live.id, AbortSignal.any([context.shutdown, AbortSignal.timeout(endTimeoutMs)]));
  await buryLost(context, live, generation);
}

/** Whether a user who sends it means the container to end: KILL, its stop signal, any signal where it names none. */
function isStopSignal(record: ContainerRecord, signal: number): boolean {
  const { stopSignal } = configOf(record);
  return signal === sigkill || stopSignal === "" || parseSignal(stopSignal) === signal;
}

/**
 * Sends a signal to the main process.
 *
 * @param ending the container is meant to end by it: no policy starts it again, and one that is paused is thawed, since a
 *   frozen process gets no signal
 * @param clientToken of all attempts to send one signal; empty: there is one attempt
 * @throws conflict: it does not run
 */
export async function sendSignal(
  context: EngineContext,
  live: LiveContainer,
  signal: number,
  ending: boolean,
  clientToken = "",
): Promise<void> {
  await live.lock.run(async () => {
    const record = containerOfId(context.state, live.id);
    const refusal = processRefusal(record);
    const { link } = live;
    if (refusal !== undefined) {
      throw refusal;
    }
    const thaws = ending && stateOf(record).status === ContainerStatus.PAUSED;
    live.endedByUser ||= ending;
    live.pauseChanged ||= thaws;
    if (link !== undefined) {
      try {
        const timeoutMs = context.driver.workloads.end === undefined ? callTimeoutMs : endableCallTimeoutMs;
        await link.agent.client.signal({ signal, clientToken }, { timeoutMs });
        if (thaws) {
          await link.agent.client.resume({}, { timeoutMs });
        }
      } catch (error) {
        // The process is on its way out: its exit is about to be told.
        if (!(error instanceof ConnectError) || error.code !== Code.FailedPrecondition) {
          throw error;
        }
      }
    }
    await noteSignal(context, record, signal, thaws);
  });
}

/** Writes down that a user has sent a signal, and whether the container was thawed for it. */
async function noteSignal(
  context: EngineContext,
  record: ContainerRecord,
  signal: number,
  thaws: boolean,
): Promise<void> {
  await context.state.commit((change) => {
    const signalled = withFields(record, { stoppedByUser: true });
    change.containers.put(thaws ? resumed(signalled) : signalled);
    change.event(containerEvent(record, "kill", { signal: String(signal) }));
    if (thaws) {
      change.event(containerEvent(record, "unpause"));
    }
  });
}

/**
 * A container that waits for its policy's restart is stopped by not restarting it.
 *
 * @returns whether it was waiting; false where it runs, or runs again
 */
export async function settleRestarting(context: EngineContext, live: LiveContainer): Promise<boolean> {
  const known = context.state.containers.get(live.id);
  if (known === undefined || stateOf(known).status !== ContainerStatus.RESTARTING) {
    return false;
  }
  endRestarts(live);
  return await live.lock.run(async () => {
    const record = containerOfId(context.state, live.id);
    const isWaiting = stateOf(record).status === ContainerStatus.RESTARTING;
    if (isWaiting) {
      const settled = withState(withFields(record, { stoppedByUser: true }), {
        status: ContainerStatus.EXITED,
      });
      await context.state.commit((change) => change.containers.put(settled));
      live.waiters.tellExit({ exitCode: stateOf(record).exitCode, error: "" });
    }
    return isWaiting;
  });
}

/** No restart by policy comes any more. */
export function endRestarts(live: LiveContainer): void {
  live.pendingRestart?.abort();
  live.pendingRestart = undefined;
}

/** The next exit of a container, listened for from now on. */
export function listenForExit(context: EngineContext, live: LiveContainer) {
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

/** For a rejection: the container ended by itself in the meantime, which is what was wanted. */
export function ignoreNotRunning(error: unknown): void {
  if (!isErrorKind(error, "conflict") && !isErrorKind(error, "not-found")) {
    throw error;
  }
}

/** Whether an agent cannot be reached. If it is gone, so is the container, and its watch is about to tell. */
function isAway(error: unknown): boolean {
  const isSilent = error instanceof ConnectError && error.code === Code.DeadlineExceeded;
  return isSilent || isErrorKind(error, "unavailable");
}

/** Puts before an error's message what was to be done; a 304 stays as it is. */
export async function withErrorPrefix<T>(what: string, task: () => Promise<T>): Promise<T> {
  try {
    return await task();
  } catch (error) {
    const { kind, message } = fromUnknown(error);
    throw kind === "not-modified" ? error : new SockerlessError(kind, `${what}: ${message}`, error);
  }
}
