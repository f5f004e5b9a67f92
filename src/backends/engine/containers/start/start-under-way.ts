/** A start in progress: others wait for it, as Docker's calls wait for the lock that a start holds, or cancel it. */
import { conflict, type SockerlessError } from "../../../../common/errors.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import { unlessAborted } from "../../../concurrency/unless-aborted.ts";
import type { EngineContext } from "../../context.ts";
import type { LiveContainer } from "../live/live.ts";
import type { StartPhases } from "../live/start-phases.ts";
import type { StartCaller } from "./start-caller.ts";
import { containerOfId, findContainer } from "../decisions/lookup.ts";
import { hasProcess, isActive, withFields } from "../../../model/records.ts";

/**
 * Performs a start with the container's lock held; it is registered as in progress until it has ended.
 *
 * @param work its signal aborts when the start is cancelled
 * @param caller undefined if there is none
 */
export async function asStartUnderWay(
  live: LiveContainer,
  phases: StartPhases,
  work: (ended: AbortSignal) => Promise<void>,
  caller?: (ending: AbortController) => StartCaller,
): Promise<void> {
  const outcome = Promise.withResolvers<void>();
  const over = outcome.promise.catch(() => undefined);
  const ending = new AbortController();
  using calledBy = caller?.(ending);
  live.run.begin({
    over,
    outcome: outcome.promise,
    caller: calledBy,
    ending,
    waitsFor: "",
    phases,
  });
  try {
    await work(ending.signal);
    live.run.settle();
    outcome.resolve();
  } catch (error) {
    live.run.settle();
    outcome.reject(error);
    throw error;
  }
}

/**
 * Treats a call as a retry of the start in progress, if it has the same token. A call with another token wants its own
 * start: a lost caller of the first one is then no longer waited for.
 *
 * @returns the outcome of the start; undefined if the call is not a retry of it
 */
export function repeatedStart(
  { run: { start } }: LiveContainer,
  clientToken: string,
  call: AbortSignal | undefined,
): Promise<void> | undefined {
  if (start?.caller === undefined) {
    return undefined;
  }
  if (clientToken === "" || start.caller.token !== clientToken) {
    start.caller.giveUp();
    return undefined;
  }
  if (call !== undefined) {
    start.caller.follow(call);
  }
  return start.outcome;
}

/**
 * Waits until no start is in progress: from then on the container's record shows its outcome.
 *
 * @param left aborts the wait
 * @throws the signal's reason
 */
export async function startSettled(live: LiveContainer, left = new AbortController().signal): Promise<void> {
  left.throwIfAborted();
  for (let { start } = live.run; start !== undefined; { start } = live.run) {
    await unlessAborted(left, start.over);
  }
}

/**
 * The container with a user's reference, once no start of it is in progress.
 *
 * @param left aborts when the client has left, which ends the wait
 * @param whileFull the result for a start that waits for capacity on the platform, which may take an hour
 * @throws not-found; conflict: its start waits for capacity; the signal's reason
 */
export async function containerOnceStarted(
  context: EngineContext,
  reference: string,
  left: AbortSignal,
  whileFull: "refuse" | "wait" = "refuse",
): Promise<ContainerRecord> {
  const { id } = findContainer(context.state, reference);
  const live = context.live.of(id);
  const { start } = live.run;
  if (whileFull === "refuse" && start !== undefined && start.waitsFor !== "") {
    throw conflict(`container ${id} is not running: its start waits: ${start.waitsFor}`);
  }
  await startSettled(live, left);
  return containerOfId(context.state, id, reference);
}

/**
 * Waits for a start in progress before a client inspects the container, unless launches take long or the start waits
 * for capacity on the platform or for its caller.
 *
 * @param left aborts when the client has left, which ends the wait
 * @throws the signal's reason
 */
export async function shortStartSettled(
  context: EngineContext,
  live: LiveContainer,
  left: AbortSignal,
): Promise<void> {
  if (!mayBeLong(context, live)) {
    await startSettled(live, left);
  }
}

/** True while a start is in progress that {@link shortStartSettled} waits for. */
export function isStartingShortly(context: EngineContext, live: LiveContainer): boolean {
  return live.run.start !== undefined && !mayBeLong(context, live);
}

function mayBeLong({ driver }: EngineContext, { run: { start } }: LiveContainer): boolean {
  const isWaiting = start !== undefined && (start.waitsFor !== "" || start.caller?.isLost === true);
  return driver.launches.stopDuringLaunch === "end" || isWaiting;
}

/**
 * Waits for a start in progress before a user ends the container, or cancels it if launches may take long or if it
 * waits for capacity on the platform or for its caller. The user's request is recorded first: a backend that resumes
 * the start undoes it.
 *
 * @param how for the error of the start
 * @param left ends the wait; a start that is cancelled stays so
 * @returns whether the start was cancelled, so that nothing runs
 * @throws the signal's reason
 */
export async function endStart(
  context: EngineContext,
  live: LiveContainer,
  how: "killed" | "removed" | "stopped",
  left?: AbortSignal,
): Promise<boolean> {
  const { start } = live.run;
  if (start === undefined || !mayBeLong(context, live)) {
    await startSettled(live, left);
    return false;
  }
  const record = context.state.containers.get(live.id);
  if (record !== undefined && !hasProcess(record) && !record.stoppedByUser) {
    await context.state.commit((change) =>
      change.containers.put(withFields(record, { stoppedByUser: true })),
    );
  }
  if (live.run.start === start && !start.ending.signal.aborted) {
    live.startEnded = start.waitsFor === "" ? endedStart(live.id, how) : givenUp(live.id, start.waitsFor);
    start.ending.abort(live.startEnded);
  }
  await startSettled(live, left);
  const after = context.state.containers.get(live.id);
  return start.ending.signal.aborted && (after === undefined || !isActive(after));
}

/** Error of a start that a user has cancelled. */
export function endedStart(containerId: string, how: "killed" | "removed" | "stopped"): SockerlessError {
  return conflict(`container ${containerId} was ${how} while it was being started`);
}

/**
 * Error of a start that was cancelled while it waited.
 *
 * @param waitedFor the missing capacity, in the platform's words
 */
export function givenUp(containerId: string, waitedFor: string): SockerlessError {
  return conflict(`the start of container ${containerId} was given up while it waited: ${waitedFor}`);
}
