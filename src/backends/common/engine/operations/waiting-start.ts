/** Starts that wait because the platform has no room: telling of them, and giving them up with their clients. */
import type { Launched, LaunchProgress, WorkloadSpec } from "../../driver.ts";
import type { EngineContext } from "../context.ts";
import type { LiveContainer } from "../live.ts";
import { withState } from "../records.ts";
import { withScopedSignal } from "../scoped-signal.ts";
import { givenUp } from "./start-under-way.ts";

/**
 * Has the driver launch a workload, with the container's lock held. While the platform has no room for it, an inspect
 * tells so as the container's error, and the start is given up when the client that asked for it leaves.
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
  { reached, left }: Pick<LaunchProgress, "reached"> & { readonly left: AbortSignal | undefined },
): Promise<Launched> {
  const { id, start } = live;
  const leave = (): void => {
    if (start !== undefined && start.waitsFor !== "") {
      start.ending.abort(givenUp(id, start.waitsFor));
    }
  };
  const waits = (told: string): void => {
    if (start === undefined || live.start !== start || ended.aborted) {
      return;
    }
    start.waitsFor = told;
    tellWait(context, id, `waits to be started: ${told}`);
    if (left?.aborted === true) {
      leave();
    }
  };
  const goesOn = (): void => {
    if (start !== undefined && live.start === start && start.waitsFor !== "" && !ended.aborted) {
      start.waitsFor = "";
      tellWait(context, id, "");
    }
  };
  left?.addEventListener("abort", leave, { once: true });
  try {
    return await withScopedSignal(AbortSignal.any([ended, context.shutdown]), (signal) =>
      context.driver.workloads.launch(spec, signal, { reached, waits, goesOn }),
    );
  } finally {
    if (start !== undefined) {
      start.waitsFor = "";
    }
    left?.removeEventListener("abort", leave);
  }
}

/** Has an inspect tell of a wait, behind the return. @param error empty: it is over */
function tellWait(context: EngineContext, id: string, error: string): void {
  void context.background.run(`tell for what container ${id} waits`, async () => {
    const record = context.state.containers.get(id);
    if (record !== undefined) {
      await context.state.commit((change) => change.containers.put(withState(record, { error })));
    }
  });
}
