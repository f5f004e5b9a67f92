/** Sends a user's signal to a container (`docker kill`). */
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../../context.ts";
import { findContainer } from "../decisions/lookup.ts";
import { configOf } from "../../../model/records.ts";
import { parseSignal, sigkill, stopSignalOf } from "../../../model/signals.ts";
import { withErrorPrefix } from "../../work/error-prefix.ts";
import { killContainer } from "./kill-container.ts";
import { noteSignal, sendSignal } from "./send-signal.ts";
import { endStart } from "../start/start-under-way.ts";

/** Signals that `docker run` forwards and that by default end a process: they may cancel a start. */
const endingSignals: ReadonlySet<number> = new Set(
  ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM"].map(parseSignal),
);

/**
 * Sends a signal; KILL returns once the container has exited. A start in progress is cancelled, as by {@link
 * killContainer}, if the signal would end its process.
 *
 * @param signal name or number; empty: KILL
 * @param left the client has left: a KILL goes on unless another stop or kill that was left does, other
 *   signals wait for nothing any more
 * @throws not-found; conflict: it does not run; invalid: the signal
 */
export async function signalContainer(
  context: EngineContext,
  reference: string,
  signal: string,
  left: AbortSignal,
): Promise<void> {
  await withErrorPrefix(`cannot kill container: ${reference}`, async () => {
    const number = signal === "" ? sigkill : parseSignal(signal);
    const record = findContainer(context.state, reference);
    const live = context.live.of(record.id);
    if (number === sigkill) {
      using others = live.leftStops.add(context.clock.nowMs(), left);
      await killContainer(context, record, others.superseded);
      return;
    }
    const isEnding =
      endingSignals.has(number) || (configOf(record).stopSignal !== "" && isStopSignal(record, number));
    if (isEnding && (await endStart(context, live, "killed", left))) {
      return;
    }
    const noted = await noteSignal(context, live, number, isStopSignal(record, number), left);
    await sendSignal(context, live, noted);
  });
}

/** Whether a signal is meant to end the container: KILL, its stop signal, or any signal if it has no stop signal. */
function isStopSignal(record: ContainerRecord, signal: number): boolean {
  const config = configOf(record);
  return signal === sigkill || config.stopSignal === "" || stopSignalOf(config) === signal;
}
