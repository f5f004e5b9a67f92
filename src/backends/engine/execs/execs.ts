/** Execs: creation, inspect, resize. */
import { create } from "@bufbuild/protobuf";

import {
  invalid,
  isErrorKind,
  messageOf,
  notFound,
  notImplemented,
  systemError,
} from "../../../common/errors.ts";
import { newId } from "../../../common/ids.ts";
import type { ExecConfig } from "../../../gen/sockerless/backend/v1/exec_pb.ts";
import {
  type ContainerRecord,
  ExecPhase,
  type ExecRecord,
  ExecRecordSchema,
} from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../context.ts";
import type { AgentLink, ExecAnswer } from "../containers/live/agent-link.ts";
import { LatestOnly } from "../../concurrency/latest-only.ts";
import { findContainer } from "../containers/decisions/lookup.ts";
import { execRefusal } from "../containers/decisions/life/refusals.ts";
import { containerOnceStarted } from "../containers/start/start-under-way.ts";
import { configOf, isVisible } from "../../model/records.ts";
import { execEnded, execStarted } from "./exec-ends.ts";
import { surplusExecs } from "./exec-remains.ts";
import { endedExec, execEvent, isExecOpen, lostExecCode } from "./decisions/exec-machine.ts";

/** Time for which a resize waits for the exec's process. */
const resizeTimeoutMs = 10_000;
/** Time limit for an agent's answer. */
const callTimeoutMs = 10_000;
/** Time for which an inspect waits for the end of an exec whose agent does not confirm that it runs. */
const endTimeoutMs = 5_000;
const endRetryMs = 50;

/**
 * Creates an exec.
 *
 * @param left aborts when the client has left, which ends the waits for a start and for the agent
 * @throws not-found; conflict: the container does not run; invalid: no command, or an unknown user
 */
export async function createExec(
  context: EngineContext,
  reference: string,
  config: ExecConfig | undefined,
  left: AbortSignal,
): Promise<string> {
  if (config === undefined || config.cmd.length === 0) {
    throw invalid("No exec command specified");
  }
  const unsupported = context.driver.settings.unsupportedByExecs(config);
  if (unsupported.length > 0) {
    throw notImplemented(`the ${context.driver.name} backend does not support ${unsupported.join(", ")}`);
  }
  const started = await containerOnceStarted(context, reference, left);
  refuse(execRefusal(started, reference));
  await refuseUnknownUser(context, started, config.user, left);
  const container = findContainer(context.state, started.id); // Its current record.
  refuse(execRefusal(container, reference));
  const exec = create(ExecRecordSchema, {
    id: newId(),
    containerId: container.id,
    config: { ...config, user: config.user || configOf(container).user },
    phase: ExecPhase.CREATED,
    generation: container.generation,
  });
  const forgotten = surplusExecs(context, exec);
  await context.state.commit((change) => {
    for (const old of forgotten) {
      change.execs.delete(old.id);
    }
    change.execs.put(exec);
    change.event(execEvent(container, exec, "exec_create"));
  });
  return exec.id;
}

/**
 * Refuses a user that the agent does not find. If the agent does not answer, the exec's start will fail
 * instead.
 *
 * @throws invalid; the signal's reason
 */
async function refuseUnknownUser(
  context: EngineContext,
  { id }: ContainerRecord,
  user: string,
  left: AbortSignal,
): Promise<void> {
  const link = context.live.peek(id)?.link;
  if (user === "" || link === undefined) {
    return;
  }
  try {
    await link.agent.client.lookUpUser({ user }, { signal: left, timeoutMs: callTimeoutMs });
  } catch (error) {
    left.throwIfAborted();
    if (isErrorKind(error, "invalid")) {
      throw invalid(messageOf(error), error);
    }
    context.logger.debug({ err: error, container: id }, "the agent cannot be asked about a user");
  }
}

/**
 * An exec's current state. The agent's knowledge is recorded first: a client that has seen the stream begin must see
 * the process, and one that has seen it end must see the exit code. Clients ask once the stream has ended, and take a
 * running exec for a successful one. So it only counts as running if its agent has just confirmed that; else it has
 * ended, with 255 if its end is not recorded in time.
 *
 * @param left the client has left
 * @throws not-found; the signal's reason
 */
export async function inspectExec(
  context: EngineContext,
  execId: string,
  left: AbortSignal,
): Promise<ExecRecord> {
  const found = findExec(context, execId);
  // The record was removed with its container.
  const now = (): ExecRecord => context.state.execs.get(execId) ?? endedExec(found, lostExecCode);
  const signal = AbortSignal.any([left, context.shutdown]);
  const deadline = context.clock.nowMs() + endTimeoutMs;
  let exec = found;
  while (isExecOpen(exec)) {
    const timeoutMs = deadline - context.clock.nowMs();
    if (timeoutMs <= 0) {
      return endedExec(exec, lostExecCode);
    }
    const { link } = context.live.peek(exec.containerId) ?? {};
    const answer = await sharedAnswer(context, link, execId, timeoutMs);
    exec = now();
    if (answer === "runs" || !isExecOpen(exec) || !hasStream(exec)) {
      return exec;
    }
    await context.clock.sleep(endRetryMs, signal);
    exec = now();
  }
  return exec;
}

/** {@link queryAgent}, once for all who ask at a time; whoever asks during a query has the answer of the next. */
async function sharedAnswer(
  context: EngineContext,
  link: AgentLink | undefined,
  execId: string,
  timeoutMs: number,
): Promise<ExecAnswer> {
  if (link === undefined) {
    return "silent";
  }
  const queries = link.execQueries.get(execId) ?? new LatestOnly<ExecAnswer>();
  link.execQueries.set(execId, queries);
  try {
    return await queries.run(() => queryAgent(context, link, execId, { timeoutMs }));
  } finally {
    if (queries.isIdle) {
      link.execQueries.delete(execId);
    }
  }
}

/** True for an exec whose client learns of its end from a stream. */
function hasStream({ config }: ExecRecord): boolean {
  return config !== undefined && (config.attachStdin || config.attachStdout || config.attachStderr);
}

/**
 * Resizes an exec's terminal; waits, bounded, for its process. Its agent is asked once, and again once the exec's record
 * has changed: it reports a start and an end.
 *
 * @param left aborts when the client has left, which ends the wait
 * @throws not-found; conflict; invalid; system: not started in time; the signal's reason
 */
export async function resizeExec(
  context: EngineContext,
  execId: string,
  size: { readonly height: number; readonly width: number },
  left: AbortSignal,
): Promise<void> {
  const signal = AbortSignal.any([left, context.shutdown]);
  const deadline = context.clock.nowMs() + resizeTimeoutMs;
  for (;;) {
    const { exec, link } = runningExecOf(context, execId);
    if (exec.phase === ExecPhase.ENDED) {
      throw invalid("exec process is not started");
    }
    if (isExecOpen(exec) && (await hasResized(link, execId, size, signal))) {
      return;
    }
    await nextChangeOf(context, exec, deadline, signal);
  }
}

/** Resizes the terminal of an exec whose process runs. @returns whether it runs */
async function hasResized(
  { agent }: AgentLink,
  execId: string,
  size: { readonly height: number; readonly width: number },
  signal: AbortSignal,
): Promise<boolean> {
  try {
    await agent.client.resize({ execId, size }, { signal, timeoutMs: callTimeoutMs });
    return true;
  } catch (error) {
    if (isErrorKind(error, "conflict") || isErrorKind(error, "not-found")) {
      return false;
    }
    throw error;
  }
}

/** Waits until an exec's record is not this one any more. @throws system: it is at the deadline; the signal's reason */
async function nextChangeOf(
  context: EngineContext,
  exec: ExecRecord,
  deadline: number,
  signal: AbortSignal,
): Promise<void> {
  const { clock, state } = context;
  const changed = new AbortController();
  const stop = state.execs.onChange(exec.id, () => changed.abort());
  try {
    if (state.execs.get(exec.id) === exec) {
      await clock.sleep(deadline - clock.nowMs(), AbortSignal.any([signal, changed.signal]));
      throw systemError("timeout waiting for exec session ready");
    }
  } catch (error) {
    signal.throwIfAborted();
    if (!changed.signal.aborted) {
      throw error;
    }
  } finally {
    stop();
  }
}

/** The exec with an ID. @throws not-found */
export function findExec(context: EngineContext, execId: string): ExecRecord {
  const exec = context.state.execs.get(execId);
  const container = exec && context.state.containers.get(exec.containerId);
  if (exec === undefined || container === undefined || !isVisible(container)) {
    throw notFound(`No such exec instance: ${execId}`);
  }
  return exec;
}

/** Execs of a container for inspect: those that have not ended. */
export function openExecIds(context: EngineContext, container: ContainerRecord): string[] {
  return context.state.execs
    .of(container.id)
    .filter(({ phase }) => phase !== ExecPhase.ENDED)
    .map(({ id }) => id);
}

/** An exec, its container and its agent. @throws not-found; conflict: the container is paused or does not run */
export function runningExecOf(context: EngineContext, execId: string) {
  const exec = findExec(context, execId);
  const container = findContainer(context.state, exec.containerId);
  refuse(execRefusal(container, container.id));
  const link = context.live.peek(container.id)?.link;
  if (link === undefined || exec.generation !== container.generation) {
    throw notFound(`No such exec instance: ${execId}`);
  }
  return { exec, container, link };
}

/**
 * Asks the agent about an exec, and records a reported process or end.
 *
 * @param refuse whether the agent must refuse an unknown exec from now on, so that it has ended
 * @returns whether the agent reports it as running
 */
export async function queryAgent(
  context: EngineContext,
  link: AgentLink | undefined,
  execId: string,
  { refuse: isRefused = false, timeoutMs = callTimeoutMs } = {},
): Promise<ExecAnswer> {
  if (link === undefined) {
    return "silent";
  }
  try {
    const request = { execId, refuse: isRefused };
    const { running, pid, exit } = await link.agent.client.execInspect(request, { timeoutMs });
    if (exit !== undefined) {
      await execEnded(context, execId, exit.code);
    } else if (running && pid > 0n) {
      await execStarted(context, execId, pid); // The watch may lag behind a client that sees the process run.
    }
    return running ? "runs" : "runs not";
  } catch (error) {
    if (!isErrorKind(error, "not-found")) {
      context.logger.debug({ err: error, exec: execId }, "the agent cannot be asked about an exec");
      return "silent";
    }
    return "runs not";
  }
}

/** @throws the refusal, if there is one */
export function refuse(refusal: Error | undefined): void {
  if (refusal !== undefined) {
    throw refusal;
  }
}
