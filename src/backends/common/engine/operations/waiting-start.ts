/** Starts that wait because the platform has no room: telling of them, and giving them up. */
import { conflict } from "../../../../common/errors.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { Launched, LaunchProgress, WorkloadSpec } from "../../driver.ts";
import type { EngineContext } from "../context.ts";
import type { LiveContainer } from "../live.ts";
import { hasProcess, withFields, withState } from "../records.ts";
import { withScopedSignal } from "../scoped-signal.ts";
import { startSettled } from "./start-under-way.ts";

/**
 * Has the driver launch a workload, with the container's lock held. While the platform has no room for it, an inspect
 * tells so as the container's error; from then on the launch ends when it is given up: by a stop, a kill or a removal,
 * or because the client that asked for it has left.
 *
 * @param reached as a driver's launch takes it
 * @param left that client has left; undefined: none has asked
 * @throws conflict: it was given up; what the driver throws
 */
export async function launchWhileWanted(
  context: EngineContext,
  live: LiveContainer,
  spec: WorkloadSpec,
  { reached, left }: Pick<LaunchProgress, "reached"> & { readonly left: AbortSignal | undefined },
): Promise<Launched> {
  const { id } = live;
  const givenUp = new AbortController();
  let reason = "";
  const waits = (told: string): void => {
    reason = told;
    live.waitingStart = givenUp;
    if (live.removing || left?.aborted === true) {
      givenUp.abort();
    }
    void context.background.run(`tell for what container ${id} waits`, async () => {
      const record = context.state.containers.get(id);
      if (record !== undefined && live.waitingStart === givenUp) {
        await context.state.commit((change) => change.containers.put(waiting(record, told)));
      }
    });
  };
  const leave = (): void => live.waitingStart?.abort();
  left?.addEventListener("abort", leave, { once: true });
  try {
    return await withScopedSignal(context.shutdown, (signal) =>
      context.driver.workloads.launch(spec, AbortSignal.any([signal, givenUp.signal]), {
        reached,
        waits,
      }),
    );
  } catch (error) {
    throw givenUp.signal.aborted && !context.shutdown.aborted
      ? conflict(`the start of container ${id} was given up while it waited: ${reason}`, error)
      : error;
  } finally {
    live.waitingStart = undefined;
    left?.removeEventListener("abort", leave);
  }
}

function waiting(record: ContainerRecord, reason: string): ContainerRecord {
  return withState(record, { error: `waits to be started: ${reason}` });
}

/**
 * Gives up a start that waits for the platform, for a user who wants the container not to run.
 *
 * @returns whether there was one: its failure is on record then
 */
export async function giveUpStart(context: EngineContext, live: LiveContainer): Promise<boolean> {
  const { waitingStart } = live;
  if (waitingStart === undefined) {
    return false;
  }
  waitingStart.abort();
  await startSettled(live);
  await live.lock.run(async () => {
    const record = context.state.containers.get(live.id);
    if (record !== undefined && !hasProcess(record)) {
      await context.state.commit((change) =>
        change.containers.put(withFields(record, { stoppedByUser: true })),
      );
    }
  });
  return true;
}
