/** Kills a container. */
import { ignoring, isErrorKind, systemError, unavailable } from "../../../../common/errors.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../../context.ts";
import { sigkill } from "../../../model/signals.ts";
import { endPastAgent } from "./end-past-agent.ts";
import { listenForExit } from "./exit-listener.ts";
import { settleRestarting } from "../start/pending-restart.ts";
import { noteSignal, sendSignal } from "./send-signal.ts";
import { endStart } from "../start/start-under-way.ts";

/** Time limit for the end of a killed process, as in Docker. */
const killTimeoutMs = 10_000;
/** The same for an agent on another machine: a cut connection delays the report. Clients wait a minute. */
const farKillTimeoutMs = 45_000;

/**
 * Kills a container and waits until its end is recorded; cancels a start in progress, or waits for it. A container on
 * another machine whose agent accepts the signal and reports no end is ended past it.
 *
 * @param superseded aborts when its client has left and another call does the same
 * @throws conflict: it does not run; the signal's reason
 */
export async function killContainer(
  context: EngineContext,
  record: ContainerRecord,
  superseded?: AbortSignal,
): Promise<void> {
  const live = context.live.of(record.id);
  if (await endStart(context, live, "killed", superseded)) {
    return;
  }
  if (await settleRestarting(context, live, superseded)) {
    return;
  }
  const signal = await noteSignal(context, live, sigkill, true, superseded);
  using exit = listenForExit(context, live, signal.generation);
  await sendSignal(context, live, signal).catch((error: unknown) =>
    endPastAgent(context, live, signal, error, superseded),
  );
  const isNear = context.driver.silentAgents.kind === "gone";
  if (await exit.within(isNear ? killTimeoutMs : farKillTimeoutMs, superseded)) {
    return;
  }
  superseded?.throwIfAborted();
  if (isNear) {
    throw systemError("tried to kill container, but did not receive an exit event");
  }
  await endPastAgent(context, live, signal, unavailable("its agent reports no end of it"), superseded);
}

/** Ignores a refusal because the container has ended, or is gone, meanwhile. @throws any other error */
export const ignoreNotRunning = ignoring(
  (error) => isErrorKind(error, "conflict") || isErrorKind(error, "not-found"),
);
