/** The state machine of an exec: created, handed out for its start, running, ended. Pure. */
import { conflict } from "../../../../common/errors.ts";
import {
  type ContainerRecord,
  ExecPhase,
  type ExecRecord,
} from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { NewEvent } from "../../../state/journal.ts";
import { commandEndEvent, commandEvent } from "../../events/decisions/command-events.ts";

/** The exit code of an exec whose end can no longer be known. */
export const lostExecCode = 255;

/** @returns why an exec cannot be started, which is possible only once */
export function execStartRefusal(exec: ExecRecord): Error | undefined {
  switch (exec.phase) {
    case ExecPhase.ENDED:
      return conflict(`exec command ${exec.id} has already run`);
    case ExecPhase.STARTING:
    case ExecPhase.RUNNING:
      return conflict(`exec command ${exec.id} is already running`);
    default:
      return undefined;
  }
}

/** Records that it was handed out: its session is expected. */
export function startingExec(exec: ExecRecord): ExecRecord {
  return { ...exec, phase: ExecPhase.STARTING };
}

/** Records that the agent has started its process. */
export function runningExec(exec: ExecRecord, pid: bigint): ExecRecord {
  return exec.phase === ExecPhase.ENDED ? exec : { ...exec, phase: ExecPhase.RUNNING, pid };
}

/** Records its end, once. */
export function endedExec(exec: ExecRecord, exitCode: number): ExecRecord {
  return exec.phase === ExecPhase.ENDED ? exec : { ...exec, phase: ExecPhase.ENDED, exitCode };
}

/** Whether it is started and has not ended. */
export function isExecOpen(exec: ExecRecord): boolean {
  return exec.phase === ExecPhase.STARTING || exec.phase === ExecPhase.RUNNING;
}

/** `exec_create: CMD`, `exec_start: CMD`. */
export function execEvent(
  container: ContainerRecord,
  exec: ExecRecord,
  action: "exec_create" | "exec_start",
): NewEvent {
  return commandEvent(container, action, exec.id, exec.config?.cmd ?? []);
}

/** `exec_die`. */
export function execEndEvent(container: ContainerRecord, exec: ExecRecord): NewEvent {
  return commandEndEvent(container, exec.id, exec.exitCode ?? lostExecCode);
}
