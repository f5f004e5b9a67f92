/** One signal to a container's main process, by its agent. */
import { Code, ConnectError } from "@connectrpc/connect";

import { ContainerStatus } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../context.ts";
import { containerEvent } from "../events/container-events.ts";
import type { LiveContainer } from "../live.ts";
import { containerOfId } from "../lookup.ts";
import { processRefusal } from "../machine/refusals.ts";
import { resumed } from "../machine/transitions.ts";
import { stateOf, withFields } from "../records.ts";

/** How long an agent may take to answer. */
const callTimeoutMs = 10_000;
/** The same where the driver can end a run past it. */
const endableCallTimeoutMs = 5_000;

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
export async function noteSignal(
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
