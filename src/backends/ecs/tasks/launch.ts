/** From a container's start to an agent that waits to be told what to run. */
import { ListTasksCommand, type RunTaskCommandInput } from "@aws-sdk/client-ecs";

import { messageOf, systemError } from "../../../common/errors.ts";
import { type TaskRecord, TaskPhase } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { Launched, LaunchProgress, WorkloadSpec } from "../../common/driver.ts";
import { definitionOf } from "../definitions/definition.ts";
import { networkOfTask } from "../security-groups/groups-of-task.ts";
import { awaitAgent, type FoundAgent } from "./await-agent.ts";
import { InterfaceWait, withoutTask } from "./interface-wait.ts";
import { isSameTask, lingersUntilMs } from "./lingering.ts";
import { NoInterface } from "./reasons.ts";
import { mayBeDone, rideOut } from "./ride-out.ts";
import { runRequest } from "./run-request.ts";
import { DefinitionGone, runTask } from "./run-task.ts";
import { StartLimit } from "./start-limit.ts";
import type { TaskContext } from "./task-context.ts";

/** What is done as soon as the agent answers. */
type Reached = LaunchProgress["reached"];

/** What of the last run does not hold for the next. */
const anew = { exitCode: undefined, oomKilled: false, finishedAt: undefined, endReason: "" };
/** A task that leaves within this time is not used again: it may be gone before it is told to start. */
const marginMs = 3_000;

/**
 * Launches a container. What AWS is asked stands in the books before it is asked, so that a launch which a crash has cut
 * off is taken up by the next call, and happens once. A wait for the account's quota is not counted as the start's.
 *
 * @throws invalid: settings; system or unavailable with AWS's reason, or with what took longer than a start may
 */
export async function launch(
  context: TaskContext,
  spec: WorkloadSpec,
  signal: AbortSignal,
  { reached, waits, goesOn }: LaunchProgress = {},
): Promise<Launched> {
  const { book } = context;
  const { id, generation } = spec.record;
  const known = book.of(id);
  using limit = new StartLimit(context.run.startTimeoutMs, signal);
  if (known?.phase === TaskPhase.SERVING && known.generation === generation) {
    return await made(context, known, limit, reached); // A crash may have come between.
  }
  const isResumed = known?.phase === TaskPhase.UNSPECIFIED && known.launchGeneration === generation;
  const asked = isResumed ? known : await prepare(context, spec, known, limit);
  if (asked.phase === TaskPhase.SERVING) {
    await giveFiles(context, asked, limit);
    return launched(context, asked);
  }
  const agent = await reachAgent(context, spec, asked, limit, { isResumed, waits, goesOn });
  const serving = await book.note(id, {
    address: agent.address,
    agentPin: agent.pin,
    generation,
    phase: TaskPhase.SERVING,
  });
  return await made(context, serving, limit, reached);
}

/**
 * Writes down what AWS is to be asked.
 *
 * @returns the task of the container's last start where that lingers and will do
 */
async function prepare(
  context: TaskContext,
  spec: WorkloadSpec,
  known: TaskRecord | undefined,
  limit: StartLimit,
): Promise<TaskRecord> {
  const { book } = context;
  const { id, generation } = spec.record;
  const request = await requestFor(context, spec, limit);
  if (known !== undefined && (await canServe(context, known, request))) {
    context.departures.cancel(known.task);
    return await book.note(id, { ...anew, generation, phase: TaskPhase.SERVING });
  }
  await limit.meanwhile("the task of its last run is still there", () => endLingering(context, known));
  return await book.note(id, {
    ...anew,
    launchGeneration: generation,
    generation,
    request: JSON.stringify(request),
    task: "",
    address: "",
    agentPin: new Uint8Array(),
    phase: TaskPhase.UNSPECIFIED,
  });
}

async function requestFor(
  context: TaskContext,
  spec: WorkloadSpec,
  limit: StartLimit,
): Promise<RunTaskCommandInput> {
  const { definitions, networks } = context;
  const definition = definitionOf(spec, context.taskImage, context.definition);
  const answered = <T>(step: () => Promise<T>): Promise<T> =>
    rideOut(spec.record.id, step, { ...context, limit });
  const mountsVolumes = (definition.volumes ?? []).some((volume) => volume.efsVolumeConfiguration);
  const [arn, groups] = await Promise.all([
    answered(() =>
      limit.meanwhile("ECS has not registered its task definition", () => definitions.ensure(definition)),
    ),
    answered(() =>
      limit.meanwhile("EC2 has not told its security groups", () =>
        networks.groupsOf(networkOfTask(spec), mountsVolumes),
      ),
    ),
  ]);
  return runRequest(spec.record, arn, groups, context.run);
}

async function canServe(
  context: TaskContext,
  known: TaskRecord,
  request: RunTaskCommandInput,
): Promise<boolean> {
  return (
    lingersUntilMs(known) - marginMs > context.clock.nowMs() &&
    isSameTask(known.request, request) &&
    (await context.agents.answers(known))
  );
}

/** A task that lingers and will not do for the next start goes at once. */
async function endLingering(context: TaskContext, known: TaskRecord | undefined): Promise<void> {
  if (known?.phase === TaskPhase.LINGERING && !(await context.agents.letGo(known))) {
    await context.departures.stop(known.task, "the container starts anew");
  }
}

/** A task that ends because there is no room for its network interface is followed by another, once there may be. */
async function reachAgent(
  context: TaskContext,
  spec: WorkloadSpec,
  asked: TaskRecord,
  limit: StartLimit,
  { isResumed, waits, goesOn }: Pick<LaunchProgress, "waits" | "goesOn"> & { readonly isResumed: boolean },
): Promise<FoundAgent> {
  const { book } = context;
  const { id } = spec.record;
  const wait = new InterfaceWait({ containerId: id, waits: waits ?? (() => {}) }, roomOptions(context));
  for (let record = asked, isFirst = true; ; isFirst = false) {
    const placing = { isResumed: isResumed && isFirst, waits, goesOn };
    const placed = record.task === "" ? await place(context, spec, record, limit, placing) : record;
    try {
      return await awaitAgent(id, placed.task, limit.signal, context);
    } catch (error) {
      if (!(error instanceof NoInterface)) {
        throw error;
      }
      const request = withoutTask(JSON.parse(placed.request) as RunTaskCommandInput, placed.task);
      const { logStreams } = record; // It has written nothing.
      record = await book.note(id, { request: JSON.stringify(request), task: "", logStreams });
      limit.pause();
      await wait.pause(error.reason, limit.signal);
      limit.restart();
    }
  }
}

/** By which rules a start waits for room. */
function roomOptions(context: TaskContext) {
  const { startTimeoutMs, quotaTimeoutMs } = context.run;
  return { ...context, startTimeoutMs, quotaTimeoutMs, isRoomExpected: () => isRoomExpected(context) };
}

async function place(
  context: TaskContext,
  spec: WorkloadSpec,
  asked: TaskRecord,
  limit: StartLimit,
  { isResumed, waits, goesOn }: Pick<LaunchProgress, "waits" | "goesOn"> & { readonly isResumed: boolean },
): Promise<TaskRecord> {
  const { id } = spec.record;
  const request = JSON.parse(asked.request) as RunTaskCommandInput;
  const options = roomOptions(context);
  const start = {
    containerId: id,
    isResumed,
    waits: (reason: string) => {
      limit.pause();
      waits?.(reason);
    },
  };
  const run = async (input: RunTaskCommandInput): Promise<TaskRecord> => {
    let isUnclear = false;
    const ask = async (): Promise<string> => {
      try {
        return await limit.during("ECS has not answered RunTask", (signal) =>
          runTask(input, { ...start, signal }, options),
        );
      } catch (error) {
        isUnclear ||= mayBeDone(error);
        throw error;
      }
    };
    try {
      const arn = await rideOut(id, ask, { ...context, limit });
      goesOn?.();
      return await context.book.noteTask(id, arn);
    } catch (error) {
      if (isUnclear) {
        context.unanswered.leaveInDoubt(id);
      }
      throw error;
    } finally {
      limit.resume();
    }
  };
  try {
    return await run(request);
  } catch (error) {
    if (!(error instanceof DefinitionGone)) {
      throw error;
    }
    await context.definitions.forget(familyOf(request));
    const { clientToken } = request; // No task has been made for it.
    const again = { ...(await requestFor(context, spec, limit)), clientToken };
    await context.book.note(id, { request: JSON.stringify(again) });
    return await run(again);
  }
}

/** Whether a task runs, of whoever in the cluster, whose end would make room for another. */
async function isRoomExpected({ book, ecs, run, logger }: TaskContext): Promise<boolean> {
  if (book.all().some(({ phase, task }) => task !== "" && phase !== TaskPhase.GONE)) {
    return true;
  }
  try {
    const { taskArns = [] } = await ecs.send(new ListTasksCommand({ cluster: run.cluster, maxResults: 1 }));
    return taskArns.length > 0;
  } catch (error) {
    logger.warn({ err: error }, `cannot ask which tasks run: ${messageOf(error)}`);
    return true;
  }
}

function familyOf({ taskDefinition = "" }: RunTaskCommandInput): string {
  return taskDefinition.slice(taskDefinition.lastIndexOf("/") + 1).replace(/:\d+$/, "");
}

/** Has the agent make ready what it starts from. When this is over, well or not, nothing of it goes on. */
async function made(
  context: TaskContext,
  task: TaskRecord,
  limit: StartLimit,
  reached: Reached,
): Promise<Launched> {
  const found = launched(context, task);
  for (const result of await Promise.allSettled([readyFiles(context, task, limit), reached?.(found)])) {
    if (result.status === "rejected") {
      throw result.reason;
    }
  }
  return found;
}

/** A large image takes its agent long to list: longer than a start's own call waits. */
async function readyFiles(context: TaskContext, task: TaskRecord, limit: StartLimit): Promise<void> {
  await limit.during("its agent has not listed the files of its image yet", (signal) =>
    context.agents.awaitFiles(task, signal),
  );
  await giveFiles(context, task, limit);
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
  return { agent, boundPorts: [], reference: task.task, address: task.address };
}
