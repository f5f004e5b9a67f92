/** Removal of `--rm` containers whose client was cut off between creation and start. */
import { isErrorKind } from "../../../../common/errors.ts";
import { ContainerStatus } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { EngineContext } from "../../context.ts";
import { hostConfigOf, isVisible, stateOf } from "../../../model/records.ts";
import { removeContainer } from "./remove-container.ts";

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
    const still = new Set(unstartedWithRm(context));
    await Promise.all(ids.filter((id) => still.has(id)).map((id) => removeUnlessStarted(context, id)));
  });
}

function unstartedWithRm(context: EngineContext): string[] {
  return [...context.state.containers.values()]
    .filter(
      (record) =>
        isVisible(record) &&
        hostConfigOf(record).autoRemove &&
        stateOf(record).status === ContainerStatus.CREATED,
    )
    .map((record) => record.id);
}

/** Keeps a container that is being started; no error if it is removed meanwhile. */
async function removeUnlessStarted(context: EngineContext, id: string): Promise<void> {
  if (context.live.of(id).run.start !== undefined) {
    return;
  }
  try {
    await removeContainer(context, id, { force: false, volumes: true, link: false });
  } catch (error) {
    if (!isErrorKind(error, "not-found") && !isErrorKind(error, "conflict")) {
      throw error;
    }
  }
}
