/** Killing a container. */
import { isErrorKind, systemError } from "../../../../common/errors.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../../context.ts";
import { sigkill } from "../../../model/signals.ts";
import { endPastAgent } from "./end-past-agent.ts";
import { listenForExit } from "./exit-listener.ts";
import { settleRestarting } from "../start/pending-restart.ts";
import { noteSignal, sendSignal } from "./send-signal.ts";
import { endStart } from "../start/start-under-way.ts";

/** How long the end of a killed process is awaited, as in Docker. */
const killTimeoutMs = 10_000;
/** The same where the agent is not on this machine: the end is told late where the way to it was cut. Clients wait a minute. */
const farKillTimeoutMs = 45_000;

/**
 * Kills a container and waits until its end is recorded; a start that is under way is ended or waited for.
 *
 * @throws conflict: it does not run
 */
export async function killContainer(context: EngineContext, record: ContainerRecord): Promise<void> {
  const live = context.live.of(record.id);
  if (await endStart(context, live, "killed")) {
    return;
  }
  if (await settleRestarting(context, live)) {
    return;
  }
  const signal = await noteSignal(context, live, sigkill, true);
  using exit = listenForExit(context, live, signal.generation);
  await sendSignal(context, live, signal).catch((error: unknown) =>
    endPastAgent(context, live, signal, error),
  );
  const isNear = context.driver.silentAgents.kind === "gone";
  if (!(await exit.within(isNear ? killTimeoutMs : farKillTimeoutMs))) {
    throw systemError("tried to kill container, but did not receive an exit event");
  }
}

/**
 * Ignores a rejection because the container ended by itself in the meantime, as was wanted. @throws any other
 */
export function ignoreNotRunning(error: unknown): undefined {
  if (!isErrorKind(error, "conflict") && !isErrorKind(error, "not-found")) {
    throw error;
  }
}
