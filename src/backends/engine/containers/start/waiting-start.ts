/**
 * Starts that wait for the platform: reports the wait, and cancels one that waits for capacity when its client leaves.
 */
import type { LaunchProgress, Launched } from "../../../driver/launches.ts";
import type { WorkloadSpec } from "../../../driver/workload-spec.ts";
import type { EngineContext } from "../../context.ts";
import type { LiveContainer } from "../live/live.ts";
import { withState } from "../../../model/records.ts";
import { withScopedSignal } from "../../../concurrency/scoped-signal.ts";
import { containerEvent } from "../../events/decisions/container-events.ts";
import { givenUp } from "./start-under-way.ts";
import { publishPhase } from "./report-phases.ts";
import { onAbort } from "../../../../common/on-abort.ts";

/**
 * Has the driver launch a workload, with the container's lock held. While it waits, inspect shows the reason as the
 * container's error; while it waits for capacity, the start is cancelled if its client leaves.
 *
 * @param ended aborts the launch: a user has cancelled the start
 * @param reached as in a driver's launch
 * @param left aborts when the client has left; undefined if there is none
 * @throws the driver's errors
 */
export async function launchWhileWanted(
  context: EngineContext,
  live: LiveContainer,
  spec: WorkloadSpec,
  ended: AbortSignal,
  {
    reached,
    phase,
    left,
  }: Pick<LaunchProgress, "reached" | "phase"> & { readonly left: AbortSignal | undefined },
): Promise<Launched> {
  const { id } = live;
  const { start } = live.run;
  let waitsForRoom = false;
  const leave = (): void => {
    if (start !== undefined && waitsForRoom) {
      start.ending.abort(givenUp(id, start.waitsFor));
    }
  };
  const waits: LaunchProgress["waits"] = (told, before) => {
    if (start === undefined || live.run.start !== start || ended.aborted) {
      return;
    }
    if (start.waitsFor === "") {
      start.phases.wait(new Date(context.clock.nowMs()));
    }
    start.waitsFor = told;
    waitsForRoom = before === "room";
    reportWait(context, id, told);
    if (left?.aborted === true) {
      leave();
    }
  };
  const goesOn = (): void => {
    if (start === undefined || live.run.start !== start || ended.aborted) {
      return;
    }
    publishPhase(context, id, start.phases.endWait(new Date(context.clock.nowMs())));
    waitsForRoom = false;
    if (start.waitsFor !== "") {
      start.waitsFor = "";
      reportWait(context, id, "");
    }
  };
  using _leaving = onAbort(left, leave);
  try {
    return await withScopedSignal(AbortSignal.any([ended, context.shutdown]), (signal) =>
      context.driver.workloads.launch(spec, signal, { reached, waits, goesOn, phase }),
    );
  } finally {
    if (start !== undefined) {
      start.waitsFor = "";
    }
  }
}

/** Reports a wait by inspect and an event, in the background. @param reason empty once it is over */
function reportWait(context: EngineContext, id: string, reason: string): void {
  void context.background.run(`tell for what container ${id} waits`, async () => {
    const record = context.state.containers.get(id);
    if (record === undefined) {
      return;
    }
    await context.state.commit((change) => {
      const error = reason === "" ? "" : `waits to be started: ${reason}`;
      change.containers.put(withState(record, { error }));
      if (reason !== "") {
        change.event(containerEvent(record, "start_waits", { reason }));
      }
    }, "under-way");
  });
}
