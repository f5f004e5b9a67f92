/** Records starts and ends of execs from the watch, and waits for ends. */
import { onAbort } from "../../../common/on-abort.ts";
import { ExecPhase, type ExecRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../context.ts";
import { endedExec, execEndEvent, lostExecCode, runningExec } from "./decisions/exec-machine.ts";

/** Records that the agent has started an exec. Idempotent; unknown execs are ignored. */
export async function execStarted(context: EngineContext, execId: string, pid: bigint): Promise<void> {
  const exec = context.state.execs.get(execId);
  if (exec === undefined || exec.phase === ExecPhase.ENDED) {
    return;
  }
  if (exec.phase !== ExecPhase.RUNNING || (exec.pid === 0n && pid !== 0n)) {
    // Its agent reports running execs to the next backend, too. An agent that keeps reporting other processes causes no
    // further writes.
    await context.state.commit((change) => change.execs.put(runningExec(exec, pid)), "reported-again");
  }
}

/** Records that an exec has ended. Idempotent. @param code undefined if unknown */
export async function execEnded(
  context: EngineContext,
  execId: string,
  code: number | undefined,
): Promise<void> {
  const exec = context.state.execs.get(execId);
  if (exec === undefined || exec.phase === ExecPhase.ENDED) {
    return;
  }
  if (code === undefined) {
    context.logger.warn({ exec: execId, container: exec.containerId }, "the end of an exec was lost");
  }
  const ended = endedExec(exec, code ?? lostExecCode);
  const container = context.state.containers.get(exec.containerId);
  await context.state.commit((change) => {
    change.execs.put(ended);
    if (container !== undefined) {
      change.event(execEndEvent(container, ended));
    }
  }, "happened");
}

/** The exit code of an exec, once it has ended. Rejects with the signal's reason. */
export async function exitCodeOf(
  context: EngineContext,
  execId: string,
  signal: AbortSignal,
): Promise<number> {
  for (;;) {
    const exec = context.state.execs.get(execId);
    if (exec === undefined) {
      return lostExecCode; // Its container was removed, and its record with it.
    }
    if (exec.phase === ExecPhase.ENDED) {
      return exec.exitCode ?? lostExecCode;
    }
    await nextEndOf(context, exec, signal);
  }
}

/** Waits for the next event that may mean the exec's end. @throws the signal's reason */
async function nextEndOf(context: EngineContext, exec: ExecRecord, signal: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const stop = context.state.events.listen((event) => {
    const isEnd = event.action === "exec_die" && event.attributes["execID"] === exec.id;
    if (isEnd || (event.action === "destroy" && event.actorId === exec.containerId)) {
      resolve();
    }
  });
  using _leaving = onAbort(signal, () => reject(signal.reason));
  try {
    await promise;
  } finally {
    stop();
  }
}
