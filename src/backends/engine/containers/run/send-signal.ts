/** A signal to a container's main process: journalled, then sent by its agent. */
import { Code, ConnectError } from "@connectrpc/connect";

import { ContainerStatus } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import { unlessAborted } from "../../../concurrency/unless-aborted.ts";
import type { EngineContext } from "../../context.ts";
import { containerEvent } from "../../events/decisions/container-events.ts";
import type { AgentLink } from "../live/agent-link.ts";
import type { LiveContainer } from "../live/live.ts";
import { containerOfId, runningContainer } from "../decisions/lookup.ts";
import { processRefusal } from "../decisions/life/refusals.ts";
import { resumed } from "../decisions/life/transitions.ts";
import { stateOf, withFields } from "../../../model/records.ts";

/** Time limit for an agent's answer. */
const callTimeoutMs = 10_000;
/** The same if the driver can stop a run without its agent. */
const endableCallTimeoutMs = 5_000;
/** How long a signal waits for an agent that has not said yet which start it serves. */
const greetingMs = 2_000;

/** A signal to one run of a container. */
export interface NotedSignal {
  /** Linux number. */
  readonly number: number;
  /** Whether it is meant to end the container. */
  readonly isEnding: boolean;
  /** Generation of the targeted run. */
  readonly generation: bigint;
}

/**
 * Journals a user's signal with its event before it is sent: if this process dies or the agent's answer is lost, the
 * state must show that a user wanted the container to end. As in Docker the entry stays if the signal cannot be sent.
 *
 * @param isEnding whether it is meant to end the container, so that no policy restarts it
 * @param left ends the wait for other changes of the container
 * @throws conflict: it does not run
 */
export async function noteSignal(
  context: EngineContext,
  live: LiveContainer,
  number: number,
  isEnding: boolean,
  left?: AbortSignal,
): Promise<NotedSignal> {
  await greeted(live);
  return await live.lock.run(async () => {
    const record = containerOfId(context.state, live.id);
    const refusal = processRefusal(record);
    if (refusal !== undefined) {
      throw refusal;
    }
    await context.state.commit((change) => {
      // A record may be megabytes long, and its container be sent signals without a pause.
      if (!record.stoppedByUser) {
        change.containers.put(withFields(record, { stoppedByUser: true }));
      }
      change.event(containerEvent(record, "kill", { signal: String(number) }));
    });
    if (isEnding) {
      live.run.endByUser();
    }
    return { number, isEnding, generation: record.generation };
  }, left);
}

/**
 * Waits until the agent of an earlier process' run has said which start it serves: for a later one than a restored state
 * knows it refuses the signal. Returns after the time limit, and once that run is over, too.
 */
export async function greeted({ link }: LiveContainer, limitMs = greetingMs): Promise<void> {
  if (link?.greeting !== undefined) {
    const over = AbortSignal.any([AbortSignal.timeout(limitMs), link.ended.signal]);
    await unlessAborted(over, link.greeting.promise).catch(() => undefined);
  }
}

/**
 * Sends a journalled signal. A paused container is unpaused if the signal is meant to end it, since a frozen process
 * gets no signals. Does not hold the lock during the agent's call.
 *
 * @param clientToken the same for all attempts to send one signal; empty for a single attempt
 * @throws unavailable or a deadline error if the agent does not answer; nothing if the run is over
 */
export async function sendSignal(
  context: EngineContext,
  live: LiveContainer,
  { number, isEnding, generation }: NotedSignal,
  clientToken = "",
): Promise<void> {
  const { link } = live;
  if (link?.generation !== generation) {
    return;
  }
  const timeoutMs = context.driver.silentAgents.kind === "gone" ? callTimeoutMs : endableCallTimeoutMs;
  try {
    await link.agent.client.signal({ signal: number, clientToken, generation }, { timeoutMs });
    if (isEnding) {
      await thaw(context, live, link, timeoutMs);
    }
  } catch (error) {
    if (!isOnItsWayOut(error) && runningContainer(context.state, live.id, generation) !== undefined) {
      throw error;
    }
  }
}

/** Unpauses the container. */
async function thaw(
  context: EngineContext,
  live: LiveContainer,
  { agent, generation }: AgentLink,
  timeoutMs: number,
): Promise<void> {
  const recordNow = (): ContainerRecord | undefined => runningContainer(context.state, live.id, generation);
  if (recordNow() === undefined) {
    return;
  }
  // A pause in progress holds the lock: it may have frozen the process without having recorded that.
  await live.lock.run(async () => {
    const record = recordNow();
    if (record === undefined || stateOf(record).status !== ContainerStatus.PAUSED) {
      return;
    }
    live.run.changePause();
    await agent.client.resume({}, { timeoutMs });
    await context.state.commit((change) => {
      change.containers.put(resumed(record));
      change.event(containerEvent(record, "unpause"));
    });
  });
}

/** The agent no longer has the process: its exit is about to be reported. */
function isOnItsWayOut(error: unknown): boolean {
  return error instanceof ConnectError && error.code === Code.FailedPrecondition;
}
