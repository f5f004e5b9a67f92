/** Pauses and unpauses containers. */
import { ContainerStatus } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../../context.ts";
import { containerEvent } from "../../events/decisions/container-events.ts";
import { lockedAtServingAgent } from "../agent/leaving-agents.ts";
import type { AgentLink } from "../live/agent-link.ts";
import type { LiveContainer } from "../live/live.ts";
import { containerOfId, findContainer } from "../decisions/lookup.ts";
import { pauseRefusal, unpauseRefusal } from "../decisions/life/refusals.ts";
import { frozenBy, isFrozenByCommit, paused, resumed } from "../decisions/life/transitions.ts";
import { hasProcess, stateOf } from "../../../model/records.ts";
import { callAgent } from "../agent/running-agent.ts";
import { keepTrying } from "../../work/keep-trying.ts";

/**
 * Pauses a container.
 *
 * @param left ends the wait for other changes of the container; what has begun goes on
 * @throws not-found; conflict: it does not run, or is paused
 */
export async function pauseContainer(
  context: EngineContext,
  reference: string,
  by: "user" | "commit",
  left: AbortSignal,
): Promise<void> {
  await changePause(context, reference, pauseRefusal, left, async (live, found) => {
    const record = frozenBy(found, by);
    const asked = live.link;
    if (by === "commit" && asked !== undefined) {
      // Recorded first, so that after a crash the next backend unpauses it.
      await context.state.commit((change) => change.containers.put(record));
    }
    try {
      await callAgent(
        live,
        (agent, options) => agent.pause({}, options),
        `cannot pause container ${live.id}`,
      );
    } catch (error) {
      if (asked !== undefined) {
        // Its agent may have frozen it all the same, or still do so.
        thaw(context, live, isNotPaused);
      }
      throw error;
    }
    await context.state.commit((change) => {
      change.containers.put(paused(record));
      change.event(containerEvent(record, "pause"));
    }, "happened");
  });
}

/** Has the container's agent change whether it is paused, unless that is refused. */
async function changePause(
  context: EngineContext,
  reference: string,
  refusalOf: typeof pauseRefusal,
  left: AbortSignal | undefined,
  change: (live: LiveContainer, record: ContainerRecord) => Promise<void>,
): Promise<void> {
  const { id } = findContainer(context.state, reference);
  const live = context.live.of(id);
  const perform = async (): Promise<void> => {
    const record = containerOfId(context.state, id, reference);
    const refusal = refusalOf(record);
    if (refusal !== undefined) {
      throw refusal;
    }
    live.run.changePause();
    await change(live, record);
  };
  await lockedAtServingAgent(context, live, perform, left);
}

/** Unpauses, in the background, a container that a commit paused: it could not unpause it, or the backend died before. */
export function thawAfterCommit(context: EngineContext, live: LiveContainer): void {
  live.run.changePause(); // The agent's watch may still report an earlier pause.
  thaw(context, live, isFrozenByCommit);
}

type Due = (record: ContainerRecord) => boolean;

const isNotPaused: Due = (record) => stateOf(record).status !== ContainerStatus.PAUSED;

/** Reasons for the thaws that are under way. */
const thaws = new WeakMap<LiveContainer, Set<Due>>();

/**
 * Unpauses a container in the background, until its agent has done so or no reason holds any more. A thaw that finds
 * another under way makes one attempt at once: the other's pauses may be long by then.
 */
function thaw(context: EngineContext, live: LiveContainer, isDue: Due): void {
  const begun = thaws.get(live);
  const reasons = begun ?? new Set();
  thaws.set(live, reasons.add(isDue));
  const what = `thaw container ${live.id}`;
  const work = async (): Promise<void> => {
    const record = context.state.containers.get(live.id);
    if (record !== undefined && hasProcess(record) && [...reasons].some((each) => each(record))) {
      await callAgent(live, (agent, options) => agent.resume({}, options));
      await context.state.commit((change) => {
        change.containers.put(resumed(record));
        if (stateOf(record).status === ContainerStatus.PAUSED) {
          change.event(containerEvent(record, "unpause"));
        }
      }, "happened");
    }
    reasons.clear();
    if (thaws.get(live) === reasons) {
      thaws.delete(live);
    }
  };
  if (begun !== undefined) {
    void context.background.run(what, () => live.lock.run(work).catch(() => undefined));
    return;
  }
  void context.background.run(what, () => keepTrying(context, what, () => live.lock.run(work)));
}

/**
 * Unpauses a container; `left` as in {@link pauseContainer}.
 *
 * @throws not-found; system: it is not paused
 */
export async function unpauseContainer(
  context: EngineContext,
  reference: string,
  left?: AbortSignal,
): Promise<void> {
  await changePause(context, reference, unpauseRefusal, left, async (live, record) => {
    await callAgent(
      live,
      (agent, options) => agent.resume({}, options),
      `Cannot unpause container ${live.id}`,
    );
    await context.state.commit((change) => {
      change.containers.put(resumed(record));
      change.event(containerEvent(record, "unpause"));
    }, "happened");
  });
}

/** Records from the agent whether a container is paused: an earlier backend may have died before it recorded that. */
export async function adoptPause(
  context: EngineContext,
  live: LiveContainer,
  link: AgentLink,
  isPaused: boolean,
): Promise<void> {
  await live.lock.run(async () => {
    const record = context.state.containers.get(live.id);
    if (
      record === undefined ||
      live.link?.pauseChanged === true ||
      record.generation !== link.generation ||
      !hasProcess(record) ||
      (stateOf(record).status === ContainerStatus.PAUSED) === isPaused ||
      !link.writes.takes(record, 2, context.clock.nowNs())
    ) {
      return;
    }
    await context.state.commit((change) => {
      change.containers.put(isPaused ? paused(record) : resumed(record));
      change.event(containerEvent(record, isPaused ? "pause" : "unpause"));
    }, "happened");
  });
}
