/** What the watch tells of execs, and those who wait for their ends. */
import { ExecPhase, type ExecRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../context.ts";
import { endedExec, execEndEvent, lostExecCode, runningExec } from "./exec-machine.ts";

/** The agent has started an exec. May be told twice. Of one that is not on record nothing is believed. */
export async function execStarted(context: EngineContext, execId: string, pid: bigint): Promise<void> {
  const exec = context.state.execs.get(execId);
  if (exec === undefined || exec.phase === ExecPhase.ENDED) {
    return;
  }
  if (exec.phase !== ExecPhase.RUNNING || exec.pid !== pid) {
    await context.state.commit((change) => change.execs.put(runningExec(exec, pid)));
  }
}

/** An exec has ended. May be told twice. @param code undefined: nobody knows it */
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
  });
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
      return lostExecCode; // Its container is gone, and its record with it.
    }
    if (exec.phase === ExecPhase.ENDED) {
      return exec.exitCode ?? lostExecCode;
    }
    await nextEndOf(context, exec, signal);
  }
}

/** The next event that may mean the exec's end. */
function nextEndOf(context: EngineContext, exec: ExecRecord, signal: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const abort = (): void => {
    stop();
    reject(signal.reason);
  };
  const stop = context.state.events.listen((event) => {
    const isEnd = event.action === "exec_die" && event.attributes["execID"] === exec.id;
    if (isEnd || (event.action === "destroy" && event.actorId === exec.containerId)) {
      stop();
      signal.removeEventListener("abort", abort);
      resolve();
    }
  });
  if (signal.aborted) {
    abort();
  } else {
    signal.addEventListener("abort", abort, { once: true });
  }
  return promise;
}
