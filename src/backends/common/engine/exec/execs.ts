/** Execs: made, started once, awaited. */
import { create } from "@bufbuild/protobuf";

import { invalid, isErrorKind, notFound, notImplemented, systemError } from "../../../../common/errors.ts";
import { newId } from "../../../../common/ids.ts";
import type { AgentEndpoint } from "../../../../gen/sockerless/backend/v1/endpoint_pb.ts";
import {
  type ExecConfig,
  ExecConfigSchema,
  type StartExecRequest,
} from "../../../../gen/sockerless/backend/v1/exec_pb.ts";
import {
  type ContainerRecord,
  ExecPhase,
  type ExecRecord,
  ExecRecordSchema,
} from "../../../../gen/sockerless/state/v1/state_pb.ts";
import { endpointFor } from "../agent-endpoint.ts";
import type { EngineContext } from "../context.ts";
import { environmentOf } from "../create/environment.ts";
import type { AgentLink } from "../live.ts";
import { linkedEnvironment } from "../links/links.ts";
import { findContainer } from "../lookup.ts";
import { execRefusal } from "../machine/refusals.ts";
import { containerOnceStarted } from "../operations/start-under-way.ts";
import { isVisible } from "../records.ts";
import { execEnded, execStarted } from "./exec-ends.ts";
import { surplusExecs } from "./exec-remains.ts";
import { execEvent, execStartRefusal, isExecOpen, startingExec } from "./exec-machine.ts";

/** How long the session of an exec that was handed out may take to come. */
const sessionTimeoutMs = 30_000;
/** How long a resize waits for the exec's process. */
const resizeTimeoutMs = 10_000;
const resizeRetryMs = 50;
/** How long an agent may take to answer. */
const callTimeoutMs = 10_000;

/**
 * Makes an exec.
 *
 * @param left the client has left: a start is not waited for any more
 * @throws not-found; conflict: the container does not run; invalid: no command
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
  if (config.privileged && !context.driver.policy.privilegedExecs) {
    throw notImplemented(`the ${context.driver.name} backend does not support exec --privileged`);
  }
  const container = await containerOnceStarted(context, reference, left);
  refuse(execRefusal(container, reference));
  const exec = create(ExecRecordSchema, {
    id: newId(),
    containerId: container.id,
    config,
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

/** An exec that its caller is to open at the agent. */
export interface HandedExec {
  readonly endpoint: AgentEndpoint;
  readonly config: ExecConfig;
  readonly containerId: string;
}

/** Hands an exec out, once. @throws not-found; conflict: started before, or its container does not run */
export async function startExec(context: EngineContext, request: StartExecRequest): Promise<HandedExec> {
  const known = runningExecOf(context, request.execId);
  const endpoint = await endpointFor(context, known.container.id, known.link.address, request.access);
  const { exec, container, link } = runningExecOf(context, request.execId); // As it is now: it starts once.
  refuse(execStartRefusal(exec));
  const config = exec.config ?? create(ExecConfigSchema);
  const started = startingExec(exec);
  await context.state.commit((change) => {
    change.execs.put(started);
    change.event(execEvent(container, started, "exec_start"));
  });
  expectSession(context, link, exec.id);
  return {
    endpoint,
    config: {
      ...config,
      env: [...environmentOf(container, config.tty, config.env, linkedEnvironment(context.state, container))],
      consoleHeight: request.consoleHeight || config.consoleHeight,
      consoleWidth: request.consoleWidth || config.consoleWidth,
    },
    containerId: container.id,
  };
}

/**
 * An exec as it is now. What the agent knows of it is recorded first, so that whoever saw its stream begin sees its
 * process, and whoever saw it end its exit code.
 *
 * @throws not-found
 */
export async function inspectExec(context: EngineContext, execId: string): Promise<ExecRecord> {
  const exec = findExec(context, execId);
  if (isExecOpen(exec)) {
    await askAgent(context, context.live.peek(exec.containerId)?.link, execId);
  }
  return context.state.execs.get(execId) ?? exec;
}

/** Sets the size of an exec's terminal; waits, bounded, for its process. @throws not-found; conflict; invalid */
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

/** The exec of that ID. @throws not-found */
export function findExec(context: EngineContext, execId: string): ExecRecord {
  const exec = context.state.execs.get(execId);
  const container = exec && context.state.containers.get(exec.containerId);
  if (exec === undefined || container === undefined || !isVisible(container)) {
    throw notFound(`No such exec instance: ${execId}`);
  }
  return exec;
}

/** Execs of a container that inspect lists: those that have not ended. */
export function openExecIds(context: EngineContext, container: ContainerRecord): string[] {
  return [...context.state.execs.values()]
    .filter((exec) => exec.containerId === container.id && exec.phase !== ExecPhase.ENDED)
    .map((exec) => exec.id);
}

/** Of execs that were handed out before the backend ended, those whose sessions never came end too. */
export function expectSessions(context: EngineContext, link: AgentLink, containerId: string): void {
  for (const exec of context.state.execs.values()) {
    if (exec.containerId === containerId && isExecOpen(exec)) {
      expectSession(context, link, exec.id);
    }
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

/** An exec whose session never comes has ended, with 255: so its agent says, and runs it no more. */
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
      isSettled = !isAwaited || (await askAgent(context, link, execId, { refuse: true }));
    }
  });
}

/**
 * Asks what the agent knows of an exec, and records a process or an end that it tells.
 *
 * @param refuse whether one that it does not know is to be refused from now on, and has ended
 * @returns whether it was asked
 */
async function askAgent(
  context: EngineContext,
  link: AgentLink | undefined,
  execId: string,
  { refuse: isRefused = false } = {},
): Promise<boolean> {
  if (link === undefined) {
    return false;
  }
  try {
    const request = { execId, refuse: isRefused };
    const { running, pid, exit } = await link.agent.client.execInspect(request, { timeoutMs: callTimeoutMs });
    if (exit !== undefined) {
      await execEnded(context, execId, exit.code);
    } else if (running && pid > 0n) {
      await execStarted(context, execId, pid); // The watch may be slower than the client that sees it run.
    }
    return true;
  } catch (error) {
    if (!isErrorKind(error, "not-found")) {
      context.logger.debug({ err: error, exec: execId }, "the agent cannot be asked about an exec");
      return false;
    }
    if (isRefused) {
      await execEnded(context, execId, undefined); // An agent of an earlier version, which cannot refuse.
    }
    return true;
  }
}

function refuse(refusal: Error | undefined): void {
  if (refusal !== undefined) {
    throw refusal;
  }
}
