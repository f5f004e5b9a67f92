/** Starts the main process by a call to the container's agent. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";

import {
  errnoOf,
  fromUnknown,
  isErrorKind,
  messageOf,
  SockerlessError,
  systemError,
} from "../../../../common/errors.ts";
import {
  type StartedProcess,
  type StartRequest,
  StartedProcessSchema,
  StartRequestSchema,
} from "../../../../gen/sockerless/agent/v1/agent_pb.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { Launches } from "../../../driver/launches.ts";
import { configOf, hostConfigOf } from "../../../model/records.ts";
import type { EngineContext } from "../../context.ts";
import { agentHealthCheck } from "../decisions/life/health.ts";
import { startFailureError } from "../decisions/life/start-failure.ts";
import type { AgentLink } from "../live/agent-link.ts";
import { foundRun } from "../run/lost-container.ts";
import { isOfEarlierRun } from "../run/watch-container.ts";
import type { LiveContainer } from "../live/live.ts";
import { repeatedWithinMs } from "./start-caller.ts";

/**
 * Time limit for the attach sessions of reservations: a start whose caller is lost meanwhile can still be undone before
 * it.
 */
const attachTimeoutMs = repeatedWithinMs + 4_000;
/** Additional time limit for the agent. */
const startTimeoutMs = 60_000;
/** Errors of connections that were never established. */
const undeliveredErrnos: ReadonlySet<string> = new Set([
  ...["ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "ENOENT"],
]);

/** The part of a start's request that the driver adds. */
type StartDetails = Awaited<ReturnType<Launches["startDetails"]>>;

/** A start that failed, with the exit code that inspect shows. */
export class FailedStart extends Error {
  readonly exitCode: number;
  readonly reason: SockerlessError;

  constructor(exitCode: number, reason: SockerlessError) {
    super(reason.message, { cause: reason });
    this.exitCode = exitCode;
    this.reason = reason;
  }
}

/** A start request that did not reach its agent: nobody listens at its address. */
export class UndeliveredStart extends SockerlessError {
  constructor(cause: unknown) {
    super("unavailable", messageOf(cause), cause);
  }
}

/** An aborted start request: the process may have begun nevertheless. */
class AbortedStart extends Error {
  readonly reason: unknown;

  constructor(reason: unknown) {
    super("the start was given up", { cause: reason });
    this.reason = reason;
  }
}

/** The request by which an agent starts the main process. @param details from the driver */
export function startRequestOf(
  live: LiveContainer,
  record: ContainerRecord,
  details: StartDetails,
): StartRequest {
  const config = configOf(record);
  const check = agentHealthCheck(config, hostConfigOf(record).groupAdd);
  return create(StartRequestSchema, {
    ...details,
    generation: record.generation,
    awaitAttachIds: live.reservations.ids(),
    awaitAttachTimeoutMs: attachTimeoutMs,
    openStdin: config.openStdin,
    stdinOnce: config.stdinOnce,
    ...(check === undefined ? {} : { healthCheck: check }),
  });
}

/**
 * Determines the state of a process whose start was not answered or was aborted. One that has begun runs, or has run:
 * its end is then recorded as that of any run.
 *
 * @throws the error, if it has not begun; for an aborted start its reason
 */
export async function settleUnansweredStart(
  context: EngineContext,
  { id, generation }: ContainerRecord,
  link: AgentLink,
  error: unknown,
): Promise<StartedProcess> {
  const isAborted = error instanceof AbortedStart;
  if (!isAborted && !isErrorKind(fromUnknown(error), "unavailable")) {
    throw error;
  }
  const begun = await startedProcessOf(link);
  if (begun !== undefined) {
    return begun;
  }
  const found = await foundRun(context, id, generation).catch(() => undefined); // The start's own error says more.
  if (found?.begunAt === undefined || found.agent !== undefined) {
    throw isAborted ? error.reason : error;
  }
  return create(StartedProcessSchema, { startedAt: timestampFromDate(found.begunAt) });
}

/** The process of this run, if its agent has begun it; undefined if not, or if the agent does not answer. */
export async function startedProcessOf(link: AgentLink): Promise<StartedProcess | undefined> {
  const over = new AbortController();
  const options = { signal: AbortSignal.any([over.signal, AbortSignal.timeout(startTimeoutMs)]) };
  try {
    const messages = link.agent.client.watch({}, options)[Symbol.asyncIterator]();
    const { value: told } = await messages.next();
    return told?.event.case === "state" && !isOfEarlierRun(told, link) ? told.event.value.started : undefined;
  } catch {
    return undefined;
  } finally {
    over.abort();
  }
}

/**
 * Has the agent start the main process.
 *
 * @param unwanted aborts the call; undefined if it is always wanted
 * @throws FailedStart: it cannot be executed; AbortedStart: the signal has aborted; the errors of the call
 */
export async function startProcess(
  link: AgentLink,
  request: StartRequest,
  unwanted: AbortSignal | undefined,
): Promise<StartedProcess> {
  const { result } = await callStart(link, request, unwanted).catch((error: unknown) => {
    throw unwanted?.aborted === true ? new AbortedStart(unwanted.reason) : error;
  });
  switch (result.case) {
    case "started":
      return result.value;
    case "failure":
      throw new FailedStart(result.value.exitCode, startFailureError(result.value));
    default:
      throw systemError("the container's agent answered its start with nothing");
  }
}

/** Calls the agent's start; retries it once, with the same generation, if its answer was lost. */
async function callStart(link: AgentLink, request: StartRequest, unwanted: AbortSignal | undefined) {
  const options = {
    timeoutMs: attachTimeoutMs + startTimeoutMs,
    ...(unwanted === undefined ? {} : { signal: unwanted }),
  };
  const call = () => link.agent.client.start(request, options);
  return await call().catch(async (error: unknown) => {
    if (!(error instanceof ConnectError) || error.code !== Code.Unavailable) {
      throw error;
    }
    return await call().catch((again: unknown) => {
      throw isUndelivered(error) && isUndelivered(again) ? new UndeliveredStart(again) : again;
    });
  });
}

/** Whether a call failed before its connection was established. */
function isUndelivered(error: unknown): boolean {
  for (let at = error; at instanceof Error; at = at.cause) {
    if (undeliveredErrnos.has(errnoOf(at) ?? "")) {
      return true;
    }
  }
  return false;
}
