/** Forgets execs that nobody starts or asks for any more, beyond those that stay on record. */
import { messageOf } from "../../../common/errors.ts";
import { every } from "../../../common/timers.ts";
import {
  type ContainerRecord,
  ExecPhase,
  type ExecRecord,
} from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../context.ts";
import { hasProcess } from "../../model/records.ts";

/**
 * Number of a container's execs that stay on record: of those that have ended, and of those never started.
 */
const kept = { ended: 256, unstarted: 1024 } as const;
/** Number that is forgotten at once. */
const together = 64;
/** Interval at which execs that can never be started are looked for, as in dockerd. */
const sweepEveryMs = 5 * 60_000;

/**
 * Execs of a container beyond as many as are kept, those first that have ended first: some containers see one a second for
 * months. One that has just ended is asked for its exit code next, however long it ran.
 */
export function surplusExecs(context: EngineContext, containerId: string): readonly ExecRecord[] {
  const { execs } = context.state;
  const beyond = (phase: ExecPhase, limit: number): readonly ExecRecord[] =>
    execs.countInPhase(containerId, phase) < limit + together
      ? []
      : execs.inPhase(containerId, phase).slice(0, -limit);
  return [...beyond(ExecPhase.ENDED, kept.ended), ...beyond(ExecPhase.CREATED, kept.unstarted)];
}

/** Sweeps now and then, until the engine ends. */
export function sweepExecsRegularly(context: EngineContext): void {
  const sweep = (): void => {
    sweepExecs(context).catch((error: unknown) =>
      context.logger.warn({ err: error }, `cannot forget execs: ${messageOf(error)}`),
    );
  };
  every(context.clock, sweepEveryMs, sweep, context.shutdown);
}

/** Forgets execs that were made for a run that is over and never started. */
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
