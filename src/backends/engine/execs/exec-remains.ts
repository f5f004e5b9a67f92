/** Drops old records of execs. */
import { messageOf } from "../../../common/errors.ts";
import { every } from "../../../common/timers.ts";
import {
  type ContainerRecord,
  ExecPhase,
  type ExecRecord,
} from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../context.ts";
import { hasProcess } from "../../model/records.ts";

/** Maximum number of recorded execs per container: of ended ones, and of those never started. */
const kept = { ended: 256, unstarted: 1024 } as const;
/** Number of records dropped at once. */
const together = 64;
/** Number of characters of a command and its settings from which a container's records are bounded by their text. */
const longText = 64 * 2 ** 10;
/** Maximum text of a container's records, in characters: of ended execs, and of those never started. */
const keptText = 16 * 2 ** 20;
/** Interval of the search for execs that can never be started, as in dockerd. */
const sweepEveryMs = 5 * 60_000;

/**
 * Execs of a container beyond the limits once another is recorded, earliest end first, as some containers see one per
 * second for months. Ordered by end rather than start, because a client asks for the exit code right after the end.
 */
export function surplusExecs(context: EngineContext, added: ExecRecord): readonly ExecRecord[] {
  const { execs } = context.state;
  const { containerId } = added;
  const beyond = (phase: ExecPhase, limit: number): readonly ExecRecord[] => {
    const isLong = textOf(added) > longText;
    if (!isLong && execs.countInPhase(containerId, phase) < limit + together) {
      return [];
    }
    const all = execs.inPhase(containerId, phase);
    const most = isLong ? Math.min(limit, newestWithin(all, keptText)) : limit;
    return all.slice(0, all.length - Math.min(most, all.length));
  };
  return [...beyond(ExecPhase.ENDED, kept.ended), ...beyond(ExecPhase.CREATED, kept.unstarted)];
}

function textOf({ config }: ExecRecord): number {
  const { cmd = [], env = [], user = "", workingDir = "", detachKeys = "" } = config ?? {};
  return [...cmd, ...env, user, workingDir, detachKeys].reduce((sum, { length }) => sum + length, 0);
}

/** @returns how many of the last records have together no more than this text */
function newestWithin(records: readonly ExecRecord[], text: number): number {
  let rest = text;
  const first = records.findLastIndex((record) => {
    rest -= textOf(record);
    return rest < 0;
  });
  return records.length - 1 - first;
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

/** Drops execs of ended runs that were never started. */
async function sweepExecs(context: EngineContext): Promise<void> {
  const dead = [...context.state.execs.values()].filter(
    (exec) =>
      exec.phase === ExecPhase.CREATED && !canStart(exec, context.state.containers.get(exec.containerId)),
  );
  if (dead.length > 0) {
    await context.state.commit((change) => {
      for (const exec of dead) {
        change.execs.delete(exec.id);
      }
    });
  }
}

function canStart(exec: ExecRecord, container: ContainerRecord | undefined): boolean {
  return container !== undefined && exec.generation === container.generation && hasProcess(container);
}
