/** Removal of `--rm` containers whose client was cut off between creation and start. */
import { ContainerStatus } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../../context.ts";
import { hostConfigOf, isVisible, stateOf } from "../../../model/records.ts";
import { removeContainer } from "./remove-container.ts";
import { ignoreNotRunning } from "../run/kill-container.ts";

/** Time for a client to start a container that was created before the backend started. */
const patienceMs = 60_000;

/** Removes present `--rm` containers that have never been started, unless a client starts them in time. */
export function removeUnstarted(context: EngineContext): void {
  const ids = unstartedWithRm(context);
  if (ids.length === 0) {
    return;
  }
  void context.background.run("remove containers that were never started", async () => {
    try {
      await context.clock.sleep(patienceMs, context.shutdown);
    } catch {
      return; // The next backend gives them the full time again.
    }
    // One after the other: the starts of others would wait for thousands of removals at once.
    for (const id of ids) {
      if (context.shutdown.aborted) {
        return;
      }
      const what = `remove container ${id}, which was never started`;
      await context.background.run(what, () => removeUnlessStarted(context, id));
    }
  });
}

function unstartedWithRm(context: EngineContext): string[] {
  return [...context.state.containers.values()].filter(isUnstartedWithRm).map((record) => record.id);
}

function isUnstartedWithRm(record: ContainerRecord): boolean {
  return (
    isVisible(record) && hostConfigOf(record).autoRemove && stateOf(record).status === ContainerStatus.CREATED
  );
}

/** Keeps a container that is being started, or has been; no error if it is removed meanwhile. */
async function removeUnlessStarted(context: EngineContext, id: string): Promise<void> {
  const record = context.state.containers.get(id);
  if (record === undefined || !isUnstartedWithRm(record) || context.live.of(id).run.start !== undefined) {
    return;
  }
  await removeContainer(context, id, { force: false, volumes: true, link: false }).catch(ignoreNotRunning);
}
