/** Execs: creation, single start, waiting. */
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
import type { AgentEndpoint } from "../../../gen/sockerless/backend/v1/endpoint_pb.ts";
import {
  type ExecConfig,
  ExecConfigSchema,
  type StartExecRequest,
} from "../../../gen/sockerless/backend/v1/exec_pb.ts";
import {
  type ContainerRecord,
  ExecPhase,
  type ExecRecord,
  ExecRecordSchema,
} from "../../../gen/sockerless/state/v1/state_pb.ts";
import { endpointFor } from "../containers/agent/agent-endpoint.ts";
import { failedAgentReplaced } from "../containers/agent/leaving-agents.ts";
import type { EngineContext } from "../context.ts";
import { execEnvironment } from "../containers/decisions/config/environment.ts";
import type { AgentLink } from "../containers/live/agent-link.ts";
import { linkedEnvironment } from "../containers/decisions/links/links.ts";
import { findContainer } from "../containers/decisions/lookup.ts";
import { execRefusal } from "../containers/decisions/life/refusals.ts";
import { containerOnceStarted } from "../containers/start/start-under-way.ts";
import { configOf, hasProcess, hostConfigOf, isVisible } from "../../model/records.ts";
import { execEnded, execStarted } from "./exec-ends.ts";
import { surplusExecs } from "./exec-remains.ts";
import {
  endedExec,
  execEvent,
  execStartRefusal,
  isExecOpen,
  lostExecCode,
  startingExec,
} from "./decisions/exec-machine.ts";

/** Time limit for the session of an exec that was handed out. */
const sessionTimeoutMs = 30_000;
/** Time for which a resize waits for the exec's process. */
const resizeTimeoutMs = 10_000;
const resizeRetryMs = 50;
/** Time limit for an agent's answer. */
const callTimeoutMs = 10_000;
/** Time for which an inspect waits for the end of an exec whose agent does not confirm that it runs. */
const endTimeoutMs = 5_000;
const endRetryMs = 50;

/**
 * Creates an exec.
 *
 * @param left aborts when the client has left, which ends the wait for a start
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
  await refuseUnknownUser(context, started, config.user);
  const container = findContainer(context.state, started.id); // As it is now.
  refuse(execRefusal(container, reference));
  const exec = create(ExecRecordSchema, {
    id: newId(),
    containerId: container.id,
    config: { ...config, user: config.user || configOf(container).user },
    phase: ExecPhase.CREATED,
    generation: container.generation,
  });
  const forgotten = surplusExecs(context, container.id);
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
 * Refuses a user that the agent does not find. If the agent is of an earlier version or does not answer, the exec's
 * start will fail instead.
 *
 * @throws invalid
 */
async function refuseUnknownUser(
  context: EngineContext,
  { id }: ContainerRecord,
  user: string,
): Promise<void> {
  const link = context.live.peek(id)?.link;
  if (user === "" || link === undefined) {
    return;
  }
  try {
    await link.agent.client.lookUpUser({ user }, { timeoutMs: callTimeoutMs });
  } catch (error) {
    if (isErrorKind(error, "invalid")) {
      throw invalid(messageOf(error), error);
    }
    context.logger.debug({ err: error, container: id }, "the agent cannot be asked about a user");
  }
}

/** An exec that its caller opens at the agent. */
export interface HandedExec {
  readonly endpoint: AgentEndpoint;
  readonly config: ExecConfig;
  readonly containerId: string;
  readonly additionalGroups: string[];
}

/** An exec that was handed out before; its caller reports that in the stream. */
interface RefusedExec {
  readonly refusal: string;
}

/**
 * Hands an exec out, once: its steps in order. Once its start is recorded, an exec without a session is ended ({@link
 * expectSession}), also by the next process of the backend ({@link expectSessions}).
 *
 * @param left aborts the wait for another agent
 * @throws not-found, also if the container's run has ended; conflict, as in dockerd: the container is paused or ends
 *   meanwhile, or a detached exec was started before
 */
export async function startExec(
  context: EngineContext,
  request: StartExecRequest,
  left: AbortSignal,
): Promise<HandedExec | RefusedExec> {
  refuseExecOfEndedRun(context, request.execId);
  const known = runningExecOf(context, request.execId);
  await failedAgentReplaced(context, known.container.id, request.access, left);
  const endpoint = await endpointFor(context, known.container.id, known.link.address, request.access);
  const { exec, container, link } = runningExecOf(context, request.execId); // As it is now: it starts once.
  const refusal = execStartRefusal(exec);
  if (refusal !== undefined && !request.detach) {
    return { refusal: refusal.message };
  }
  refuse(refusal);
  await recordExecStart(context, container, exec);
  expectSession(context, link, exec.id);
  return handedExec(context, container, exec, request, endpoint);
}

async function recordExecStart(
  context: EngineContext,
  container: ContainerRecord,
  exec: ExecRecord,
): Promise<void> {
  const started = startingExec(exec);
  await context.state.commit((change) => {
    change.execs.put(started);
    change.event(execEvent(container, started, "exec_start"));
  });
}

function handedExec(
  context: EngineContext,
  container: ContainerRecord,
  { config = create(ExecConfigSchema) }: ExecRecord,
  { consoleHeight, consoleWidth }: StartExecRequest,
  endpoint: AgentEndpoint,
): HandedExec {
  return {
    endpoint,
    config: {
      ...config,
      env: [...execEnvironment(container, config, linkedEnvironment(context, container))],
      consoleHeight: consoleHeight || config.consoleHeight,
      consoleWidth: consoleWidth || config.consoleWidth,
    },
    containerId: container.id,
    additionalGroups: hostConfigOf(container).groupAdd,
  };
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
    const answer = await askAgent(context, link, execId, { timeoutMs });
    exec = now();
    if (answer === "runs" || !isExecOpen(exec) || !hasStream(exec)) {
      return exec;
    }
    await context.clock.sleep(endRetryMs, signal);
    exec = now();
  }
  return exec;
}

/** True for an exec whose client learns of its end from a stream. */
function hasStream({ config }: ExecRecord): boolean {
  return config !== undefined && (config.attachStdin || config.attachStdout || config.attachStderr);
}

/** Resizes an exec's terminal; waits, bounded, for its process. @throws not-found; conflict; invalid */
export async function resizeExec(
  context: EngineContext,
  execId: string,
  height: number,
  width: number,
): Promise<void> {
  const deadline = context.clock.nowMs() + resizeTimeoutMs;
  for (;;) {
    const { exec, link } = runningExecOf(context, execId);
    if (exec.phase === ExecPhase.ENDED) {
      throw invalid("exec process is not started");
    }
    try {
      await link.agent.client.resize({ execId, size: { height, width } }, { timeoutMs: resizeTimeoutMs });
      return;
    } catch (error) {
      const isEarly = isErrorKind(error, "conflict") || isErrorKind(error, "not-found");
      if (!isEarly) {
        throw error;
      }
      if (context.clock.nowMs() >= deadline) {
        throw systemError("timeout waiting for exec session ready", error);
      }
    }
    await context.clock.sleep(resizeRetryMs, context.shutdown);
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
  return [...context.state.execs.values()]
    .filter((exec) => exec.containerId === container.id && exec.phase !== ExecPhase.ENDED)
    .map((exec) => exec.id);
}

/** Ends execs without a session that an earlier backend handed out, like those of this one. */
export function expectSessions(context: EngineContext, link: AgentLink, containerId: string): void {
  for (const exec of context.state.execs.values()) {
    if (exec.containerId === containerId && isExecOpen(exec)) {
      expectSession(context, link, exec.id);
    }
  }
}

/** Error of an exec whose container has ended: not-found for a start, conflict for a resize. */
function refuseExecOfEndedRun(context: EngineContext, execId: string): void {
  if (!hasProcess(findContainer(context.state, findExec(context, execId).containerId))) {
    throw notFound(`No such exec instance: ${execId}`);
  }
}

function runningExecOf(context: EngineContext, execId: string) {
  const exec = findExec(context, execId);
  const container = findContainer(context.state, exec.containerId);
  refuse(execRefusal(container, container.id));
  const link = context.live.peek(container.id)?.link;
  if (link === undefined || exec.generation !== container.generation) {
    throw notFound(`No such exec instance: ${execId}`);
  }
  return { exec, container, link };
}

/** Ends an exec with 255 if its session never comes; its agent is told to refuse it. */
function expectSession(context: EngineContext, link: AgentLink, execId: string): void {
  void context.background.run(`await the session of exec ${execId}`, async () => {
    const signal = AbortSignal.any([link.ended.signal, context.shutdown]);
    let isSettled = false;
    while (!isSettled) {
      try {
        await context.clock.sleep(sessionTimeoutMs, signal);
      } catch {
        return; // The container's end, or the next backend, settles it.
      }
      const isAwaited = context.state.execs.get(execId)?.phase === ExecPhase.STARTING;
      isSettled = !isAwaited || (await askAgent(context, link, execId, { refuse: true })) !== "silent";
    }
  });
}

/**
 * Asks the agent about an exec, and records a reported process or end.
 *
 * @param refuse whether the agent must refuse an unknown exec from now on, so that it has ended
 * @returns whether the agent reports it as running
 */
async function askAgent(
  context: EngineContext,
  link: AgentLink | undefined,
  execId: string,
  { refuse: isRefused = false, timeoutMs = callTimeoutMs } = {},
): Promise<"runs" | "runs not" | "silent"> {
  if (link === undefined) {
    return "silent";
  }
  try {
    const request = { execId, refuse: isRefused };
    const { running, pid, exit } = await link.agent.client.execInspect(request, { timeoutMs });
    if (exit !== undefined) {
      await execEnded(context, execId, exit.code);
    } else if (running && pid > 0n) {
      await execStarted(context, execId, pid); // The watch may be slower than the client that sees it run.
    }
    return running ? "runs" : "runs not";
  } catch (error) {
    if (!isErrorKind(error, "not-found")) {
      context.logger.debug({ err: error, exec: execId }, "the agent cannot be asked about an exec");
      return "silent";
    }
    if (isRefused) {
      await execEnded(context, execId, undefined); // An agent of an earlier version, which cannot refuse.
    }
    return "runs not";
  }
}

function refuse(refusal: Error | undefined): void {
  if (refusal !== undefined) {
    throw refusal;
  }
}
