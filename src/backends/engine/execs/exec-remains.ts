/** Drops old records of execs. */
import { messageOf, systemError } from "../../../common/errors.ts";
import { every } from "../../../common/timers.ts";
import { ExecPhase, type ExecRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../context.ts";
import type { Execs } from "../../state/exec-table.ts";
import { weightOf } from "../../state/weights.ts";
import { hasProcess } from "../../model/records.ts";

/** Maximum number of recorded execs per container: of ended ones, and of those never started. */
const kept = { ended: 256, unstarted: 1024 } as const;
/** Number of records dropped at once. */
const together = 64;
/** Bytes of execs of one container: of those that start or run, and of all others. */
const weightOfContainer = 16 * 2 ** 20;
/** Bytes of ended execs, and of those never started, of all containers together. */
const weightOfAll = 64 * 2 ** 20;
/** Interval of the search for execs that can never be started, as in dockerd. */
const sweepEveryMs = 5 * 60_000;

/**
 * Execs beyond the limits once another is recorded, earliest end first, as some containers see one per second for
 * months. Ordered by end rather than start, because a client asks for the exit code right after the end. Over the limit
 * of all containers, the one whose execs weigh most loses a quarter of them.
 *
 * @throws system: those of its container that start or run weigh too much
 */
export function surplusExecs(context: EngineContext, added: ExecRecord): ReadonlySet<ExecRecord> {
  const { execs } = context.state;
  const { containerId } = added;
  if (execs.openWeight(containerId) > weightOfContainer) {
    throw systemError(
      `the execs of a container may hold at most ${weightOfContainer / 2 ** 20} MiB while they run`,
    );
  }
  const weight = weightOf(added);
  const { heaviest, total } = execs.idleWeights();
  return new Set([
    ...beyondCount(execs, containerId, ExecPhase.ENDED, kept.ended),
    ...beyondCount(execs, containerId, ExecPhase.CREATED, kept.unstarted),
    ...beyondWeight(execs, containerId, weightOfContainer - weight),
    ...(total + weight > weightOfAll ? beyondWeight(execs, heaviest, execs.idleWeight(heaviest) * 0.75) : []),
  ]);
}

function beyondCount(
  execs: Execs,
  containerId: string,
  phase: ExecPhase,
  limit: number,
): readonly ExecRecord[] {
  if (execs.countInPhase(containerId, phase) < limit + together) {
    return [];
  }
  const all = execs.inPhase(containerId, phase);
  return all.slice(0, all.length - limit);
}

/** The first of a container's ended execs, then of those never started, without which the others are within the limit. */
function beyondWeight(execs: Execs, containerId: string, limit: number): readonly ExecRecord[] {
  let weight = execs.idleWeight(containerId);
  if (weight <= limit) {
    return [];
  }
  const all = [
    ...execs.inPhase(containerId, ExecPhase.ENDED),
    ...execs.inPhase(containerId, ExecPhase.CREATED),
  ];
  const firstKept = all.findIndex((exec) => {
    const fits = weight <= limit;
    weight -= weightOf(exec);
    return fits;
  });
  return firstKept < 0 ? all : all.slice(0, firstKept);
}

/** Sweeps periodically until the engine ends. */
export function sweepExecsRegularly(context: EngineContext): void {
  const sweep = (): void => {
    sweepExecs(context).catch((error: unknown) =>
      context.logger.warn({ err: error }, `cannot forget execs: ${messageOf(error)}`),
    );
  };
  every(context.clock, sweepEveryMs, sweep, context.shutdown);
}

/**
 * Drops execs of ended runs that were never started; the next start of their container forgets them too. Each container's
 * are a change of their own: those of all together would take a turn of seconds.
 */
async function sweepExecs({ state }: EngineContext): Promise<void> {
  const { containers, execs } = state;
  for (const id of [...containers.keys()]) {
    const container = containers.get(id);
    const dead = container === undefined || hasProcess(container) ? [] : execs.inPhase(id, ExecPhase.CREATED);
    if (dead.length > 0) {
      await state.commit((change) => {
        for (const exec of dead) {
          change.execs.delete(exec.id);
        }
      });
    }
  }
}
