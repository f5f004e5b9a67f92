/** Starts that wait for the platform: telling of them, and giving those up that wait for room with their clients. */
import type { LaunchProgress, Launched } from "../../../driver/launches.ts";
import type { WorkloadSpec } from "../../../driver/workload-spec.ts";
import type { EngineContext } from "../../context.ts";
import type { LiveContainer } from "../live/live.ts";
import { withState } from "../../../model/records.ts";
import { withScopedSignal } from "../../../concurrency/scoped-signal.ts";
import { containerEvent } from "../../events/decisions/container-events.ts";
import { givenUp } from "./start-under-way.ts";
import { publishPhase } from "./tell-phases.ts";
import { onAbort } from "../../../../common/on-abort.ts";

/**
 * Has the driver launch a workload, with the container's lock held. While that waits, an inspect tells why as the container's
 * error; while it waits for room, the start is given up when the client that asked for it leaves.
 *
 * @param ended ends the launch: a user has ended the start
 * @param reached as a driver's launch takes it
 * @param left that client has left; undefined: none has asked
 * @throws what the driver throws
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
    tellWait(context, id, told);
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
      tellWait(context, id, "");
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

/** Has an inspect and an event tell of a wait, behind the return. @param reason empty: it is over */
function tellWait(context: EngineContext, id: string, reason: string): void {
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
    });
  });
}
