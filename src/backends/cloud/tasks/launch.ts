/** Launches a container, up to an agent that waits for its start. */
import {
  conflict,
  fromUnknown,
  invalid,
  isErrorKind,
  messageOf,
  systemError,
  unavailable,
} from "../../../common/errors.ts";
import { type TaskRecord, TaskPhase } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { hasEnded, RequestStale, type StartStep, type TaskView } from "../contract/cloud-tasks.ts";
import { LaterStart } from "../../driver/later-start.ts";
import type { LaunchProgress, Launched, ReportedPhase } from "../../driver/launches.ts";
import type { StartSecrets, WorkloadSpec } from "../../driver/workload-spec.ts";
import { preparedStart } from "../authority/call-token.ts";
import { ClaimFailure, finishClaim, takePrepared } from "../pool/claim.ts";
import type { Described } from "../agents/task-agents.ts";
import { awaitAgent } from "./await-agent.ts";
import { endLater } from "./endings.ts";
import { tasksOfStart } from "./find-tasks.ts";
import { leftToLater, servesLater } from "./later-starts.ts";
import { lingersUntilMs } from "./lingering.ts";
import { leaveAgent, unmet } from "./lost-agent.ts";
import { placeTask } from "./place-task.ts";
import { mayBeDone, rideOut } from "./ride-out.ts";
import { RoomWait } from "./room-wait.ts";
import { StartLimit } from "./start-limit.ts";
import { StartTries } from "./start-tries.ts";
import type { TaskContext } from "./task-context.ts";
import { isLack, PassingFailure } from "./task-end.ts";
import { type PhaseListener, reportRemaining } from "./task-phases.ts";

/** Called as soon as the agent answers. */
type Reached = LaunchProgress["reached"];

/** Limits of a start: time and tries. */
interface StartBounds {
  readonly limit: StartLimit;
  readonly tries: StartTries;
  readonly phase: PhaseListener;
}

/** The parameters of a start's placement. */
interface Placing extends StartBounds {
  readonly isResumed: boolean;
  /** Requests another task although an earlier answer was lost, whose request may also have created one. */
  readonly doubted: () => void;
  readonly reached: Reached;
  readonly waits: LaunchProgress["waits"];
  readonly goesOn: () => void;
}

/** Fields of the last run's end, cleared for the next run. */
const anew = { exitCode: undefined, oomKilled: false, finishedAt: undefined, endReason: "" };
/** Pause before waiting again for a lost agent. */
const lostPauseMs = 1_000;
/** Maximum bytes of a start's secrets and other files; agents accept messages of 8 MiB. */
const maxSecretBytes = 4 * 1024 * 1024;
/** Minimum remaining time of a task for reuse: it could end before it is told to start. */
const marginMs = 3_000;

/**
 * Launches a container. Requests to the cloud are recorded before they are sent, so that the next call resumes an
 * interrupted launch and it happens once. Waiting for the account's quota does not count towards the start's time.
 *
 * @throws conflict: there is nothing to resume; invalid: settings, or too large secrets; system or unavailable with the
 *   cloud's reason, or naming the step that exceeded the start's time
 */
export async function launch(
  context: TaskContext,
  spec: WorkloadSpec,
  signal: AbortSignal,
  { reached, waits, goesOn, phase }: LaunchProgress,
): Promise<Launched> {
  const { cloud, clock, interrupted, settings } = context;
  const { id, generation } = spec.record;
  refuseLargeSecrets(spec.secrets);
  const before = interrupted.of(id, generation);
  const leftMs = before && before.endsAtMs - clock.nowMs();
  using limit = new StartLimit(settings.startTimeoutMs, cloud.names.section, signal, clock, leftMs);
  const told = (reason: string): void => waits(reason, "try");
  const tries = new StartTries({
    ...context,
    containerId: id,
    waits: told,
    goesOn,
    failures: before?.failures ?? 0,
  });
  if (before?.lost !== undefined) {
    const { failure, hasEnded, needsSameAgent } = before.lost;
    await (hasEnded
      ? tries.pause("passes", messageOf(failure), failure, limit.signal)
      : pauseBeforeAsking(failure, limit, context, told));
    if (needsSameAgent && context.book.of(id)?.phase !== TaskPhase.SERVING) {
      throw failure; // Its task was found to have ended meanwhile.
    }
    goesOn();
  }
  const found = await launchOnce(context, spec, { reached, waits, goesOn, phase }, { limit, tries, phase });
  interrupted.launched(id, {
    generation,
    failures: tries.failures,
    endsAtMs: clock.nowMs() + limit.leftMs,
  });
  return found;
}

/**
 * Pauses before an agent that did not answer is asked again. That is not a try while its task exists: it may be slow.
 *
 * @throws system: the start's time is over; the signal's reason
 */
async function pauseBeforeAsking(
  failure: Error,
  limit: StartLimit,
  { clock }: TaskContext,
  told: (reason: string) => void,
): Promise<void> {
  const words = messageOf(failure);
  told(`its agent is asked again in ${lostPauseMs / 1000} s: ${words}`);
  await limit.during(words, (signal) => clock.sleep(lostPauseMs, signal));
}

/** Launches a container within the remaining limits of its start. */
async function launchOnce(
  context: TaskContext,
  spec: WorkloadSpec,
  { reached, waits, goesOn }: LaunchProgress,
  { limit, tries, phase }: StartBounds,
): Promise<Launched> {
  const { id, generation } = spec.record;
  const bounds = { limit, tries, phase };
  await findUsed(context, spec, bounds);
  const known = (await takeUp(context, spec, bounds, { waits, goesOn })) ?? context.book.of(id);
  if (known?.phase === TaskPhase.SERVING && known.generation === generation) {
    if (!context.book.hasWritten(id)) {
      await leaveUsed(context, known);
    }
    const found = await made(context, known, limit, reached); // A crash may have interrupted the start here.
    return found ?? launched(context, known); // The caller determines whether the agent was told to run.
  }
  const isResumed = known?.phase === TaskPhase.UNSPECIFIED && known.launchGeneration === generation;
  const asked = isResumed ? known : await prepare(context, spec, known, bounds);
  if (asked.phase === TaskPhase.SERVING) {
    await giveFiles(context, asked, limit);
    return launched(context, asked);
  }
  let isDoubted = false;
  const doubted = (): void => {
    isDoubted = true;
  };
  const placing = { limit, tries, phase, isResumed, doubted, reached, waits, goesOn };
  try {
    return await bringUp(context, spec, asked, placing);
  } finally {
    if (isDoubted) {
      await stopOthers(context, asked);
    }
  }
}

/** Finds out whether the task of the last start serves a later one, if only an earlier process has written that it lingers. */
async function findUsed(context: TaskContext, spec: WorkloadSpec, bounds: StartBounds): Promise<void> {
  const { book, cloud, poller } = context;
  const last = book.of(spec.record.id);
  if (last?.phase !== TaskPhase.LINGERING || book.hasWritten(last.containerId)) {
    return;
  }
  if (!lingers(context, last)) {
    const stillTo = `${cloud.names.service} does not tell of ${last.task}`;
    const view = await stepsOf(context, spec, bounds)(stillTo, () => poller.look(last.task));
    if (view === "missing" || view.stopping || hasEnded(view)) {
      return;
    }
  }
  const silence = "the agent of its last run does not say which start it serves";
  await bounds.limit.meanwhile(silence, () => servesLater(context, last));
}

/**
 * Records the task of this start that runs although the state, which is older, does not know it. The number is the one
 * that its agent was told last, as a task may have been reused. A task of an earlier start is stopped, and so is a prepared one
 * whose claim has failed.
 *
 * @throws LaterStart: that of a later start runs; system: its agent has not answered within the start's time
 */
async function takeUp(
  context: TaskContext,
  spec: WorkloadSpec,
  bounds: StartBounds,
  { waits, goesOn }: Pick<LaunchProgress, "waits" | "goesOn">,
): Promise<TaskRecord | undefined> {
  const { agents, book, cloud, departures, later, poller } = context;
  const { service } = cloud.names;
  const { id, generation } = spec.record;
  const told = (reason: string): void => waits(reason, "try");
  const step = stepsOf(context, spec, bounds);
  for (let task = later.get(id); task !== undefined; task = later.get(id)) {
    const asked = task;
    const view = await step(`${service} does not tell of ${asked}`, () => poller.look(asked));
    if (view === "missing" || view.stopping || hasEnded(view)) {
      later.delete(id);
      return undefined;
    }
    let found: Described;
    try {
      const place = { task, address: view.address ?? "", launchGeneration: view.generation };
      found = await bounds.limit.meanwhile("its agent does not say which start it serves", () =>
        view.address === undefined
          ? Promise.reject(unavailable(`${service} does not tell the address of ${asked}`))
          : agents.describe(id, place),
      );
    } catch (error) {
      if (bounds.limit.signal.aborted) {
        throw error;
      }
      if (await isUnclaimed(context, view)) {
        await step(`${service} has not stopped ${asked}`, () =>
          endLater(context, id, "its claim has failed"),
        );
        return undefined;
      }
      // A start that fails has spent its number: the next one would end what runs.
      await pauseBeforeAsking(fromUnknown(error), bounds.limit, context, told);
      goesOn();
      continue;
    }
    const number = found.record?.generation ?? view.generation;
    if (number > generation) {
      throw new LaterStart(number, task);
    }
    if (number < generation) {
      await step(`${service} has not stopped ${asked}`, () =>
        endLater(context, id, "a later start of the container takes its place"),
      );
      return undefined;
    }
    departures.cancel(task); // It may have been expected to end.
    const taken = await book.noteTask(id, task, {
      ...anew,
      launchGeneration: view.generation,
      generation,
      request: "",
      address: found.address,
      agentPin: found.pin,
      phase: TaskPhase.SERVING,
    });
    later.delete(id);
    return taken;
  }
  return undefined;
}

/** Whether the agent of a prepared task still waits to be claimed, as after a claim of which the cloud alone was told. */
async function isUnclaimed({ agents }: TaskContext, { task, address, prepared }: TaskView): Promise<boolean> {
  if (prepared === undefined || address === undefined) {
    return false;
  }
  return await agents.describe(prepared.name, { task, address, launchGeneration: preparedStart }).then(
    () => true,
    () => false,
  );
}

/** @throws LaterStart: the task of a start serves a later one */
async function leaveUsed(context: TaskContext, task: TaskRecord): Promise<void> {
  const number = await leftToLater(context, task);
  if (number !== undefined) {
    throw new LaterStart(number, task.task);
  }
}

/** Checks the size of a start, which is sent to the agent in one message. @throws invalid */
function refuseLargeSecrets(secrets: StartSecrets | undefined): void {
  const bytes = [
    ...(secrets?.files ?? []).map(({ content }) => content.length),
    ...(secrets?.env ?? []).map((each) => Buffer.byteLength(each)),
  ].reduce((sum, length) => sum + length, 0);
  if (bytes > maxSecretBytes) {
    throw invalid(
      `the secrets and files of a start take ${bytes} bytes: at most ${maxSecretBytes} are taken to a task`,
    );
  }
}

/** Runs a step of a start, and reports its duration. */
async function timed<T>(
  name: ReportedPhase["name"],
  { clock }: TaskContext,
  { phase }: StartBounds,
  step: () => Promise<T>,
): Promise<T> {
  const from = new Date(clock.nowMs());
  const done = await step();
  phase({ name, by: "backend", from, until: new Date(clock.nowMs()) });
  return done;
}

/**
 * Records the request to the cloud.
 *
 * @returns the lingering task of the container's last start, if it can be reused
 */
async function prepare(
  context: TaskContext,
  spec: WorkloadSpec,
  known: TaskRecord | undefined,
  bounds: StartBounds,
): Promise<TaskRecord> {
  const { book } = context;
  const { id, generation } = spec.record;
  if (spec.continues === true) {
    if (known === undefined || !lingers(context, known) || !(await context.agents.answers(known))) {
      throw conflict(`the files of container ${id} are gone: it cannot run another step`);
    }
    return await reuse(context, spec, known);
  }
  const made = await timed("definition", context, bounds, () =>
    context.requests.make(spec, stepsOf(context, spec, bounds), bounds.phase),
  );
  const isTriedAgain = known !== undefined && known.launchGeneration === generation && known.task !== "";
  const request = isTriedAgain ? context.requests.another(made, known.task) : made;
  if (known !== undefined && (await canServe(context, known, request))) {
    return await reuse(context, spec, known);
  }
  await bounds.limit.meanwhile("the task of its last run is still there", () => endLingering(context, known));
  return await book.note(id, {
    ...anew,
    launchGeneration: generation,
    generation,
    ...unmet,
    request,
    task: "",
    prepared: "",
  });
}

/** Reuses the last start's task for this one. */
async function reuse(context: TaskContext, spec: WorkloadSpec, { task }: TaskRecord): Promise<TaskRecord> {
  const { id, generation } = spec.record;
  context.departures.cancel(task);
  return await context.book.note(id, { ...anew, generation, phase: TaskPhase.SERVING });
}

/** Prepares a start's request in steps, each retried while the cloud fails. */
function stepsOf(context: TaskContext, spec: WorkloadSpec, bounds: StartBounds): StartStep {
  return (stillTo, step) =>
    rideOut(spec.record.id, () => bounds.limit.meanwhile(stillTo, step), { ...context, ...bounds });
}

/** Whether the last start's task can be reused; its request is unknown after a state loss. */
async function canServe(context: TaskContext, known: TaskRecord, request: string): Promise<boolean> {
  return (
    lingers(context, known) &&
    known.request !== "" &&
    context.requests.isAlike(known.request, request) &&
    (await context.agents.answers(known))
  );
}

/** Whether the last start's task lingers long enough for another start. */
function lingers({ clock }: TaskContext, known: TaskRecord): boolean {
  return lingersUntilMs(known) - marginMs > clock.nowMs();
}

/** Ends a lingering task at once that cannot be reused. */
async function endLingering(context: TaskContext, known: TaskRecord | undefined): Promise<void> {
  if (known?.phase === TaskPhase.LINGERING && !(await context.agents.letGo(known))) {
    await context.departures.stop(known.task, "the container starts anew");
  }
}

/**
 * Brings up a task with an agent that is ready to start. A task that ends before that, so before the command has begun,
 * is replaced: once there may be capacity, or after a pause. A lost agent is waited for again, while its task exists.
 */
async function bringUp(
  context: TaskContext,
  spec: WorkloadSpec,
  asked: TaskRecord,
  placing: Placing,
): Promise<Launched> {
  const { abandoned, book, clock, logger } = context;
  const { limit, phase, reached, waits } = placing;
  const { id, generation } = spec.record;
  const { logStreams } = asked; // A lost agent's task has written nothing to them.
  const wait = new RoomWait({ containerId: id, waits: (told) => waits(told, "room") }, roomOptions(context));
  const onMissed = (note: string): void =>
    phase({ name: "unprepared", by: "backend", from: new Date(clock.nowMs()), note });
  let mayClaim = true;
  for (let record = asked, isFirst = true; ; isFirst = false) {
    const now = { ...placing, isResumed: placing.isResumed && isFirst };
    const begun = new Date(clock.nowMs());
    // The task of a request that may have been sent must be found.
    const taken =
      record.task === "" && mayClaim && !now.isResumed
        ? await takePrepared(context, spec, record, onMissed, limit)
        : undefined;
    const placed = taken ?? (record.task === "" ? await place(context, spec, record, now) : record);
    const isClaim = placed.prepared !== "";
    try {
      const claimed = isClaim ? await finishClaim(context, placed, limit) : undefined;
      const agent = claimed ?? (await awaitAgent(id, placed, limit.signal, { ...context, ...placing }));
      const met = { address: agent.address, agentPin: agent.pin, generation, phase: TaskPhase.SERVING };
      const serving = await book.note(id, { ...met, prepared: "" });
      if (now.isResumed) {
        await leaveUsed(context, serving);
      }
      if (claimed !== undefined) {
        const note = claimed.isAwaited ? { note: "it was waited for, as it was still coming up" } : {};
        phase({ name: "claim", by: "backend", from: begun, until: new Date(clock.nowMs()), ...note });
      }
      const found = await made(context, serving, limit, reached);
      if (found !== undefined && isClaim) {
        return { ...found, reused: true };
      }
      if (found !== undefined) {
        return { ...found, settled: reportRemaining(serving.task, phase, context, abandoned) };
      }
      logger.warn(
        { container: id, task: serving.task },
        "the agent of a container was lost before it was told to run",
      );
      record = await leaveAgent(context, serving);
      await clock.sleep(lostPauseMs, limit.signal);
    } catch (error) {
      if (error instanceof ClaimFailure) {
        record = await withoutClaim(context, placed, error);
        mayClaim = false;
        onMissed(`the prepared task could not be claimed: ${error.message}`);
        continue;
      }
      if (!(error instanceof PassingFailure)) {
        throw error;
      }
      const isRoom = error.prospect === "room";
      const next = isRoom ? anotherTask(context, placed) : await afterTask(context, placed, error, placing);
      record = await book.note(id, { ...unmet, ...next, logStreams });
      if (isRoom) {
        context.pool.yieldRoom();
        limit.pause();
        await wait.pause(error.reason, limit.signal);
        limit.restart();
      }
    }
  }
}

/** Continues as if no task had been prepared; the one whose claim failed is stopped. */
async function withoutClaim(
  { book, logger, pool }: TaskContext,
  { containerId, task }: TaskRecord,
  failure: ClaimFailure,
): Promise<TaskRecord> {
  logger.warn(
    { container: containerId, task, err: failure },
    `a prepared task cannot be claimed, and the container starts without it: ${failure.message}`,
  );
  pool.doom(task);
  const { logStreams } = book.of(containerId) ?? { logStreams: [] };
  return await book.note(containerId, {
    ...unmet,
    task: "",
    prepared: "",
    logStreams: logStreams.slice(0, -1),
  });
}

/** Like {@link nextTry}, after a task was given, whose remains are stopped. */
async function afterTask(
  context: TaskContext,
  record: TaskRecord,
  failure: PassingFailure,
  placing: Placing,
): Promise<Asking> {
  const { task, containerId } = record;
  await context.departures
    .stop(task, "another task takes its place")
    .catch((error: unknown) =>
      context.logger.warn(
        { container: containerId, task, err: error },
        `cannot stop a task: ${messageOf(error)}`,
      ),
    );
  return await nextTry(context, record, failure, placing);
}

/** Fields of the record for another task, after a pause. @throws the failure, if there is no further try */
async function nextTry(
  context: TaskContext,
  record: TaskRecord,
  failure: PassingFailure,
  { limit, tries, waits }: Placing,
): Promise<Asking> {
  const { prospect, reason } = failure;
  const other = prospect === "capacity" ? context.requests.otherCapacity(record.request) : undefined;
  if (other === undefined) {
    await tries.pause(prospect, reason, failure, limit.signal);
    return anotherTask(context, record);
  }
  const next = `another kind of capacity is asked for: ${reason}`;
  context.logger.warn({ container: record.containerId }, `a container waits to be started: ${next}`);
  waits(next, "try");
  return anotherTask(context, { request: other, task: record.task });
}

/** Fields of a record for a requested task. */
type Asking = Pick<TaskRecord, "request" | "task">;

/** Requests another task. */
function anotherTask({ requests }: TaskContext, { request, task }: Asking): Asking {
  return { request: requests.another(request, task), task: "" };
}

/** The rules for waiting for capacity. */
function roomOptions(context: TaskContext) {
  const { startTimeoutMs, quotaTimeoutMs } = context.settings;
  return { ...context, startTimeoutMs, quotaTimeoutMs, isRoomExpected: () => isRoomExpected(context) };
}

async function place(
  context: TaskContext,
  spec: WorkloadSpec,
  asked: TaskRecord,
  placing: Placing,
): Promise<TaskRecord> {
  const { id } = spec.record;
  const { limit, tries, waits, goesOn } = placing;
  const { service, run: call } = context.cloud.names;
  const options = roomOptions(context);
  const start = {
    containerId: id,
    phase: placing.phase,
    waits: (reason: string) => {
      context.pool.yieldRoom();
      limit.pause();
      waits(reason, "room");
    },
  };
  /** A task may exist although the answer was lost: only the same request finds it. */
  let isUnclear = placing.isResumed;
  const ask = async (request: string): Promise<string> => {
    try {
      return await limit.during(`${service} has not answered ${call}`, (signal) =>
        placeTask(request, { ...start, isResumed: isUnclear, signal }, options),
      );
    } catch (error) {
      isUnclear ||= mayBeDone(error);
      throw error;
    }
  };
  const run = async (request: string): Promise<string> => {
    try {
      return await rideOut(id, () => ask(request), { ...context, ...placing });
    } finally {
      limit.resume();
    }
  };
  const renewed = async (request: string): Promise<string> => {
    try {
      return await run(request);
    } catch (error) {
      if (!(error instanceof RequestStale)) {
        throw error;
      }
      const again = await context.requests.renew(
        request,
        spec,
        stepsOf(context, spec, placing),
        placing.phase,
      );
      await context.book.note(id, { request: again });
      return await run(again);
    }
  };
  try {
    for (let record = asked; ; ) {
      try {
        const task = await renewed(record.request);
        goesOn();
        return await context.book.noteTask(id, task);
      } catch (error) {
        if (!(error instanceof PassingFailure)) {
          throw error;
        }
        record = context.book.of(id) ?? record; // The request may have been renewed.
        if (isUnclear && !isAnswer(error)) {
          await tries.pause(error.prospect, error.reason, error, limit.signal);
        } else {
          if (isUnclear) {
            placing.doubted();
          }
          isUnclear = false;
          record = await context.book.note(id, await nextTry(context, record, error, placing));
        }
      }
    }
  } catch (error) {
    if (isUnclear) {
      context.unanswered.leaveInDoubt(id);
    }
    throw error;
  }
}

/** Stops all tasks of a start except its own: those of requests whose answers were lost. Never fails. */
async function stopOthers(
  context: TaskContext,
  { containerId, launchGeneration }: TaskRecord,
): Promise<void> {
  const { book, departures, logger } = context;
  try {
    const own = book.of(containerId)?.task;
    for (const { task, stopping } of await tasksOfStart(context, containerId, launchGeneration)) {
      if (task !== own && !stopping) {
        logger.warn({ container: containerId, task }, "a second task of a start is stopped");
        await departures.stop(task, "another task has taken its place");
      }
    }
  } catch (error) {
    logger.warn({ container: containerId, err: error }, `cannot look for other tasks: ${messageOf(error)}`);
  }
}

/** Whether such a failure means that the cloud has looked for the request's task, and would have returned it. */
function isAnswer({ cause, prospect }: PassingFailure): boolean {
  return cause === undefined || isLack(prospect);
}

/** Whether any task runs, of any owner, whose end would make room for another. */
async function isRoomExpected({ book, cloud, logger }: TaskContext): Promise<boolean> {
  if (book.all().some(({ phase, task }) => task !== "" && phase !== TaskPhase.GONE)) {
    return true;
  }
  try {
    return await cloud.isAnyRunning();
  } catch (error) {
    logger.warn({ err: error }, `cannot ask which tasks run: ${messageOf(error)}`);
    return true;
  }
}

/**
 * Has the agent prepare its start. When this returns or throws, none of the work continues.
 *
 * @returns undefined if the agent was unavailable, or no longer answers
 */
async function made(
  context: TaskContext,
  task: TaskRecord,
  limit: StartLimit,
  reached: Reached,
): Promise<Launched | undefined> {
  const found = launched(context, task);
  const isLost = async (): Promise<boolean> => !limit.signal.aborted && !(await context.agents.answers(task));
  const [listed, told] = await Promise.allSettled([readyFiles(context, task, limit), reached(found)]);
  const failed = [listed, told].find((result) => result.status === "rejected");
  if (failed !== undefined) {
    if ((isErrorKind(failed.reason, "unavailable") && !limit.signal.aborted) || (await isLost())) {
      return undefined;
    }
    throw failed.reason;
  }
  const hasListed = listed.status === "fulfilled" && listed.value;
  return hasListed || !(await isLost()) ? found : undefined;
}

/**
 * Waits until the agent has listed its image's files, which for a large image takes longer than the start's own call.
 * @returns whether it reports that
 */
async function readyFiles(context: TaskContext, task: TaskRecord, limit: StartLimit): Promise<boolean> {
  const hasListed = await limit.during("its agent has not listed the files of its image yet", (signal) =>
    context.agents.awaitFiles(task, signal),
  );
  await giveFiles(context, task, limit);
  return hasListed;
}

async function giveFiles(context: TaskContext, task: TaskRecord, limit: StartLimit): Promise<void> {
  const target = context.agents.targetOf(task);
  if (target !== undefined) {
    await limit.during("the files that were put into the container are not in it yet", (signal) =>
      context.stored.applyStaged(task.containerId, target, signal),
    );
  }
}

function launched(context: TaskContext, task: TaskRecord): Launched {
  const agent = context.agents.addressOf(task);
  if (agent === undefined) {
    throw systemError(`nothing is known of the agent of container ${task.containerId}`);
  }
  return {
    agent,
    boundPorts: [],
    reference: task.task,
    address: context.agents.containerAddressOf(task),
    reused: task.generation !== task.launchGeneration,
  };
}
