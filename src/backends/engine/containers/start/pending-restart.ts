/** Containers that wait for a restart by policy: cancels that wait. */
import { ContainerStatus } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { EngineContext } from "../../context.ts";
import type { LiveContainer } from "../live/live.ts";
import { containerOfId } from "../decisions/lookup.ts";
import { stateOf, withFields, withState } from "../../../model/records.ts";

/**
 * Stops a container that waits for a restart by policy, by cancelling the restart.
 *
 * @param left ends the wait for other changes of the container
 * @returns whether it was waiting; false if it runs, or runs again
 * @throws the signal's reason
 */
export async function settleRestarting(
  context: EngineContext,
  live: LiveContainer,
  left?: AbortSignal,
): Promise<boolean> {
  const known = context.state.containers.get(live.id);
  if (known === undefined || stateOf(known).status !== ContainerStatus.RESTARTING) {
    return false;
  }
  return await live.lock.run(async () => {
    const record = containerOfId(context.state, live.id);
    const isWaiting = stateOf(record).status === ContainerStatus.RESTARTING;
    if (isWaiting) {
      const settled = withState(withFields(record, { stoppedByUser: true }), {
        status: ContainerStatus.EXITED,
      });
      const recorded = context.state.commit((change) => change.containers.put(settled));
      await live.waiters.notifyExit(recorded, { exitCode: stateOf(record).exitCode, error: "" });
      live.run.endWait();
    }
    return isWaiting;
  }, left);
}
