/** Starts an exec: the steps in order. The caller then opens it at the agent. */
import { create } from "@bufbuild/protobuf";

import { notFound } from "../../../common/errors.ts";
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
} from "../../../gen/sockerless/state/v1/state_pb.ts";
import { hasProcess, hostConfigOf } from "../../model/records.ts";
import { endpointFor } from "../containers/agent/agent-endpoint.ts";
import { failedAgentReplaced } from "../containers/agent/leaving-agents.ts";
import { execEnvironment } from "../containers/decisions/config/environment.ts";
import { linkedEnvironment } from "../containers/decisions/links/links.ts";
import { findContainer } from "../containers/decisions/lookup.ts";
import type { AgentLink } from "../containers/live/agent-link.ts";
import type { EngineContext } from "../context.ts";
import { type Verb, performSteps } from "../work/steps.ts";
import { execEvent, execStartRefusal, startingExec } from "./decisions/exec-machine.ts";
import { queryAgent, findExec, refuse, runningExecOf } from "./execs.ts";

/** Time limit for the session of an exec that was handed out. */
const sessionTimeoutMs = 30_000;

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

/** State shared by the steps of one exec start. */
interface ExecStart {
  readonly context: EngineContext;
  readonly container: ContainerRecord;
  readonly link: AgentLink;
  readonly exec: ExecRecord;
}

/**
 * The steps of an exec's start, after which it is handed out. A backend that finds one unfinished at its start
 * completes it.
 */
const execSteps: Verb<ExecStart> = {
  name: "exec",
  steps: [
    { name: "record", run: recordStart },
    { name: "session", run: expectSession },
  ],
};

/**
 * Hands an exec out, once.
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
  // Its current record: an exec starts only once.
  const { exec, container, link } = runningExecOf(context, request.execId);
  const refusal = execStartRefusal(exec);
  if (refusal !== undefined && !request.detach) {
    return { refusal: refusal.message };
  }
  refuse(refusal);
  await performSteps(execSteps, { context, container, link, exec });
  return handedExec(context, container, exec, request, endpoint);
}

/** Resumes exec starts that an earlier process of the backend has recorded. */
export async function resumeExecs(
  context: EngineContext,
  link: AgentLink,
  container: ContainerRecord,
): Promise<void> {
  for (const exec of context.state.execs.open(container.id)) {
    await performSteps(execSteps, { context, container, link, exec }, "session");
  }
}

async function recordStart({ context, container, exec }: ExecStart): Promise<void> {
  const started = startingExec(exec);
  await context.state.commit((change) => {
    change.execs.put(started);
    change.event(execEvent(container, started, "exec_start"));
  });
}

/** Ends an exec with 255 if its session never comes; its agent is told to refuse it. */
function expectSession({ context, link, exec: { id } }: ExecStart): void {
  void context.background.run(`await the session of exec ${id}`, async () => {
    const signal = AbortSignal.any([link.ended.signal, context.shutdown]);
    let isSettled = false;
    while (!isSettled) {
      try {
        await context.clock.sleep(sessionTimeoutMs, signal);
      } catch {
        return; // The container's end, or the next backend, settles the exec.
      }
      const isAwaited = context.state.execs.get(id)?.phase === ExecPhase.STARTING;
      isSettled = !isAwaited || (await queryAgent(context, link, id, { refuse: true })) !== "silent";
    }
  });
}

/** Error of an exec whose container has ended: not-found for a start, conflict for a resize. */
function refuseExecOfEndedRun(context: EngineContext, execId: string): void {
  if (!hasProcess(findContainer(context.state, findExec(context, execId).containerId))) {
    throw notFound(`No such exec instance: ${execId}`);
  }
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
