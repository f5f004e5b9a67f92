/** From a container's start to an agent that waits to be told what to run. */
import { conflict, invalid, messageOf, systemError } from "../../../common/errors.ts";
import { type TaskRecord, TaskPhase } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { RequestStale, type StartStep } from "../contract/cloud-tasks.ts";
import type { LaunchProgress, Launched, ReportedPhase } from "../../driver/launches.ts";
import type { StartSecrets, WorkloadSpec } from "../../driver/workload-spec.ts";
import { awaitAgent } from "./await-agent.ts";
import { tasksOfStart } from "./find-tasks.ts";
import { lingersUntilMs } from "./lingering.ts";
import { placeTask } from "./place-task.ts";
import { mayBeDone, rideOut } from "./ride-out.ts";
import { RoomWait } from "./room-wait.ts";
import { StartLimit } from "./start-limit.ts";
import { StartTries } from "./start-tries.ts";
import type { TaskContext } from "./task-context.ts";
import { isLack, PassingFailure } from "./task-end.ts";
import { type TellPhase, tellRest } from "./task-phases.ts";

/** Called as soon as the agent answers. */
type Reached = LaunchProgress["reached"];

/** Bounds of a start: its time, and its tries. */
interface StartBounds {
  readonly limit: StartLimit;
  readonly tries: StartTries;
  readonly phase: TellPhase;
}

/** Everything that a start is placed with. */
interface Placing extends StartBounds {
  readonly isResumed: boolean;
  /** Another task is asked for although the answer to a request was lost: that may have made one, too. */
  readonly doubted: () => void;
  readonly reached: Reached;
  readonly waits: LaunchProgress["waits"];
  readonly goesOn: () => void;
}

/** Fields of the last run's end, which do not hold for the next run. */
const anew = { exitCode: undefined, oomKilled: false, finishedAt: undefined, endReason: "" };
/** Fields of the record of a task whose agent has not been met. */
const unmet = { address: "", agentPin: new Uint8Array(), phase: TaskPhase.UNSPECIFIED };
/** Pause before an agent that was lost is awaited again. */
const lostPauseMs = 1_000;
/** All secrets and other files of a start together; an agent takes messages of 8 MiB. */
const maxSecretBytes = 4 * 1024 * 1024;
/** A task that leaves within this time is not used again: it may be gone before it is told to start. */
const marginMs = 3_000;

/**
 * Launches a container. What the cloud is asked stands in the books before it is asked, so that a launch which a crash has cut
 * off is taken up by the next call, and happens once. A wait for the account's quota is not counted as the start's.
 *
 * @throws conflict: nothing is there to be continued; invalid: settings, or secrets that are too large; system or unavailable with the cloud's reason, or with what took longer than a start may
 */
export async function launch(
  context: TaskContext,
  spec: WorkloadSpec,
  signal: AbortSignal,
  { reached, waits, goesOn, phase }: LaunchProgress,
): Promise<Launched> {
  const { book, cloud, clock, settings } = context;
  const { id, generation } = spec.record;
  refuseLargeSecrets(spec.secrets);
  const known = book.of(id);
  using limit = new StartLimit(settings.startTimeoutMs, cloud.names.section, signal, clock);
  if (known?.phase === TaskPhase.SERVING && known.generation === generation) {
    const found = await made(context, known, limit, reached); // A crash may have come between.
    return found ?? launched(context, known); // Whether it was told to run, its caller finds out.
  }
  const tries = new StartTries({ ...context, containerId: id, waits: (told) => waits(told, "try"), goesOn });
  const isResumed = known?.phase === TaskPhase.UNSPECIFIED && known.launchGeneration === generation;
  const asked = isResumed ? known : await prepare(context, spec, known, { limit, tries, phase });
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

/** An agent is told of a start in one message, which has a bound. @throws invalid */
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

/** Does a step of a start, and tells how long it took. */
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
 * Writes down what the cloud is to be asked.
 *
 * @returns the task of the container's last start where that lingers and will do
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
  const request = await timed("definition", context, bounds, () =>
    context.requests.make(spec, stepsOf(context, spec, bounds), bounds.phase),
  );
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
  });
}

/** Has the task of the last start serve this one. */
async function reuse(context: TaskContext, spec: WorkloadSpec, { task }: TaskRecord): Promise<TaskRecord> {
  const { id, generation } = spec.record;
  context.departures.cancel(task);
  return await context.book.note(id, { ...anew, generation, phase: TaskPhase.SERVING });
}

/** Makes the steps of a start's request, each repeated while the cloud fails. */
function stepsOf(context: TaskContext, spec: WorkloadSpec, bounds: StartBounds): StartStep {
  return (stillTo, step) =>
    rideOut(spec.record.id, () => bounds.limit.meanwhile(stillTo, step), { ...context, ...bounds });
}

/** Whether the task of a container's last start will do; what that was asked for is lost with a state. */
async function canServe(context: TaskContext, known: TaskRecord, request: string): Promise<boolean> {
  return (
    lingers(context, known) &&
    known.request !== "" &&
    context.requests.isAlike(known.request, request) &&
    (await context.agents.answers(known))
  );
}

/** Whether the task of a container's last start lingers long enough for another. */
function lingers({ clock }: TaskContext, known: TaskRecord): boolean {
  return lingersUntilMs(known) - marginMs > clock.nowMs();
}

/** Ends at once a task that lingers and will not do for the next start. */
async function endLingering(context: TaskContext, known: TaskRecord | undefined): Promise<void> {
  if (known?.phase === TaskPhase.LINGERING && !(await context.agents.letGo(known))) {
    await context.departures.stop(known.task, "the container starts anew");
  }
}

/**
 * Brings up a task whose agent answers and has what it starts from. One that ends before, and with it before the command has
 * begun, is followed by another: once there may be room, or after a pause. An agent that was met and answers no more is
 * awaited again, as long as its task is there.
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
  const { logStreams } = asked; // Those that are lost have written nothing.
  const wait = new RoomWait({ containerId: id, waits: (told) => waits(told, "room") }, roomOptions(context));
  for (let record = asked, isFirst = true; ; isFirst = false) {
    const now = { ...placing, isResumed: placing.isResumed && isFirst };
    const placed = record.task === "" ? await place(context, spec, record, now) : record;
    try {
      const agent = await awaitAgent(id, placed.task, limit.signal, { ...context, ...placing });
      const met = { address: agent.address, agentPin: agent.pin, generation, phase: TaskPhase.SERVING };
      const serving = await book.note(id, met);
      const found = await made(context, serving, limit, reached);
      if (found !== undefined) {
        return { ...found, settled: tellRest(serving.task, phase, context, abandoned) };
      }
      logger.warn(
        { container: id, task: serving.task },
        "the agent of a container was lost before it was told to run",
      );
      record = await book.note(id, unmet);
      await clock.sleep(lostPauseMs, limit.signal);
    } catch (error) {
      if (!(error instanceof PassingFailure)) {
        throw error;
      }
      const isRoom = error.prospect === "room";
      const next = isRoom ? anotherTask(context, placed) : await afterTask(context, placed, error, placing);
      record = await book.note(id, { ...unmet, ...next, logStreams });
      if (isRoom) {
        limit.pause();
        await wait.pause(error.reason, limit.signal);
        limit.restart();
      }
    }
  }
}

/** As {@link nextTry}, where a task was given: whatever is left of that is stopped. */
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

/** Fields of the record that asks for another task, after a pause. @throws the failure, where no more is tried */
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

/** Fields of a record that ask for a task. */
type Asking = Pick<TaskRecord, "request" | "task">;

/** Asks for another task than the last. */
function anotherTask({ requests }: TaskContext, { request, task }: Asking): Asking {
  return { request: requests.another(request, task), task: "" };
}

/** The rules by which a start waits for room. */
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
      limit.pause();
      waits(reason, "room");
    },
  };
  /** A task may have been made although the answer that told of it was lost: only its own request finds it. */
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
        record = context.book.of(id) ?? record; // Its request may have been renewed.
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

/** Stops the tasks of a start but the one that it has: those of requests whose answers were lost. Never fails. */
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

/** Whether a cloud that failed like this has looked for the task of the request, and would have told it. */
function isAnswer({ cause, prospect }: PassingFailure): boolean {
  return cause === undefined || isLack(prospect);
}

/** Whether a task runs, of whoever, whose end would make room for another. */
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
 * Has the agent make ready what it starts from. When this is over, well or not, nothing of it goes on.
 *
 * @returns undefined: the agent does not answer any more
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
    if (await isLost()) {
      return undefined;
    }
    throw failed.reason;
  }
  const hasListed = listed.status === "fulfilled" && listed.value;
  return hasListed || !(await isLost()) ? found : undefined;
}

/** A large image takes its agent long to list: longer than a start's own call waits. @returns whether it says that it has */
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
