/**
 * Claims of prepared tasks by containers' starts. The steps, each of which may be repeated: the container's record
 * names the task; the cloud records whose it is; its agent is assigned to the container. A task gets no data of the
 * container before the record names it, and a task in a record belongs to no other container.
 */
import { messageOf } from "../../../common/errors.ts";
import { preparedAsked } from "../../../common/metrics/measure.ts";
import type { TaskRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { withCallFaultPoints } from "../../driver/fault-points.ts";
import type { WorkloadSpec } from "../../driver/workload-spec.ts";
import { preparedStart } from "../authority/call-token.ts";
import type { FoundAgent } from "../contract/agent-finder.ts";
import type { StartLimit } from "../tasks/start-limit.ts";
import type { TaskContext } from "../tasks/task-context.ts";
import type { TakenAgent } from "./pool.ts";

/** A claim has failed: the start continues without the task. */
export class ClaimFailure extends Error {}

/** Time limit of a claim: a start without a prepared task takes some tens of seconds. */
const claimLimitMs = 5_000;

/**
 * Claims a prepared task of its shape for a start.
 *
 * @param onMissed as in {@link Pool.take}
 * @returns undefined if there is none
 */
export async function takePrepared(
  { pool, book }: TaskContext,
  spec: WorkloadSpec,
  asked: TaskRecord,
  onMissed: (reason: string) => void,
  limit: Pick<StartLimit, "during">,
): Promise<TaskRecord | undefined> {
  pool.started(spec, asked.request);
  const found = await limit.during("the prepared task that it waits for has not come up", async (signal) =>
    pool.take(asked.request, onMissed, signal),
  );
  if (found === undefined) {
    return undefined;
  }
  try {
    const record = await book.noteTask(asked.containerId, found.task, { prepared: found.name });
    pool.settle(found.task);
    return record;
  } catch (error) {
    pool.doom(found.task);
    throw error;
  }
}

/**
 * Assigns the task that a container's record names, and its agent, to the container. Completes a claim that a crash
 * interrupted.
 *
 * @throws ClaimFailure; the signal's reason
 */
export async function finishClaim(
  context: TaskContext,
  record: TaskRecord,
  { signal }: Pick<StartLimit, "signal">,
): Promise<TakenAgent> {
  const scope = AbortSignal.any([signal, AbortSignal.timeout(claimLimitMs)]);
  try {
    const known = context.pool.agentOf(record.task);
    const found = await claim(context, record, known, scope);
    const isAwaited = known?.isAwaited === true;
    preparedAsked.report(() => ({ outcome: isAwaited ? "awaited" : "hit" }));
    return { ...found, isAwaited };
  } catch (error) {
    signal.throwIfAborted();
    preparedAsked.report(() => ({ outcome: "unclaimed" }));
    throw new ClaimFailure(messageOf(error), { cause: error });
  }
}

async function claim(
  context: TaskContext,
  record: TaskRecord,
  known: FoundAgent | undefined,
  signal: AbortSignal,
): Promise<FoundAgent> {
  const { agents, finder, pool, poller, settings } = context;
  const { containerId, task, prepared, launchGeneration } = record;
  const address = known?.address ?? (await addressOf(task, poller));
  const place = { task, address };
  await pool.claim(task, record, signal);
  const claimAgent = withCallFaultPoints(
    (waiting: FoundAgent) => agents.claim(waiting, record, settings.startTimeoutMs, signal),
    () => "agents.claim",
  );
  if (known !== undefined) {
    return { address, pin: await claimAgent(known) };
  }
  try {
    return {
      address,
      pin: await claimAgent(
        await finder.meet(prepared, { ...place, launchGeneration: preparedStart }, signal),
      ),
    };
  } catch {
    // It may be assigned to the container already.
    const claimed = await finder.meet(containerId, { ...place, launchGeneration }, signal);
    await agents.greet(containerId, claimed, signal);
    return claimed;
  }
}

/** @throws Error: the task is gone or ending */
async function addressOf(task: string, poller: TaskContext["poller"]): Promise<string> {
  const view = await poller.look(task);
  if (view === "missing" || view.stopping || view.stopped || view.address === undefined) {
    throw new Error("the prepared task has ended");
  }
  return view.address;
}
