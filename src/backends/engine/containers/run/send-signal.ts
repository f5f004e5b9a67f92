/** One signal to a container's main process: written down, then sent by its agent. */
import { Code, ConnectError } from "@connectrpc/connect";

import { ContainerStatus } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../../context.ts";
import { containerEvent } from "../../events/decisions/container-events.ts";
import type { AgentLink } from "../live/agent-link.ts";
import type { LiveContainer } from "../live/live.ts";
import { containerOfId, runningContainer } from "../decisions/lookup.ts";
import { processRefusal } from "../decisions/life/refusals.ts";
import { resumed } from "../decisions/life/transitions.ts";
import { stateOf, withFields } from "../../../model/records.ts";

/** How long an agent may take to answer. */
const callTimeoutMs = 10_000;
/** The same where the driver can end a run past it. */
const endableCallTimeoutMs = 5_000;

/** A signal to one run of a container. */
export interface NotedSignal {
  /** Linux number. */
  readonly number: number;
  /** The container is meant to end by it. */
  readonly isEnding: boolean;
  /** Generation of the run that it is meant for. */
  readonly generation: bigint;
}

/**
 * Writes down that a user sends a signal, with its event, before it is sent: if this process dies meanwhile
 * or the agent's answer is lost, the state alone must tell that a user wanted the container to end. As in
 * Docker it stays written down when the signal cannot be sent.
 *
 * @param isEnding the container is meant to end by it: no policy starts it again
 * @throws conflict: it does not run
 */
export async function noteSignal(
  context: EngineContext,
  live: LiveContainer,
  number: number,
  isEnding: boolean,
): Promise<NotedSignal> {
  return await live.lock.run(async () => {
    const record = containerOfId(context.state, live.id);
    const refusal = processRefusal(record);
    if (refusal !== undefined) {
      throw refusal;
    }
    if (isEnding) {
      live.run.endByUser();
    }
    await context.state.commit((change) => {
      change.containers.put(withFields(record, { stoppedByUser: true }));
      change.event(containerEvent(record, "kill", { signal: String(number) }));
    });
    return { number, isEnding, generation: record.generation };
  });
}

/**
 * Sends a signal that has been written down. A container that is meant to end by it and is paused is thawed, since a
 * frozen process gets no signal. While the agent is asked nothing else waits.
 *
 * @param clientToken the same for all attempts to send one signal; empty: there is one attempt
 * @throws unavailable, or a deadline that has passed: the agent does not answer. Nothing where the run is over
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

/** Lets the processes of a paused container go on. */
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
  // A pause that is under way has the lock: it may have frozen the process, and not have recorded it.
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

/** The agent has no such process any more: its exit is about to be told. */
function isOnItsWayOut(error: unknown): boolean {
  return error instanceof ConnectError && error.code === Code.FailedPrecondition;
}
