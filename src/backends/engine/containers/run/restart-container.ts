/** Restarts a container: a stop and a start. */
import { isErrorKind } from "../../../../common/errors.ts";
import type { EngineContext } from "../../context.ts";
import { containerEvent } from "../../events/decisions/container-events.ts";
import { withErrorPrefix } from "../../work/error-prefix.ts";
import { stopRefusal } from "../decisions/life/refusals.ts";
import { findContainer } from "../decisions/lookup.ts";
import { type FrontendPorts, startContainer } from "../start/start-container.ts";
import { containerOnceStarted, repeatedStart } from "../start/start-under-way.ts";
import { endRun, type StopOptions, stopOrder } from "./stop-container.ts";

/** Options of `docker restart`. */
export interface RestartOptions extends StopOptions {
  /** As in a start. */
  readonly clientToken?: string | undefined;
}

/**
 * Stops a container if it runs, and starts it. Waits for a start in progress only while the client is there; after that
 * continues without the client, as `stopContainer` does.
 *
 * @param left aborts when the client has left
 * @param ports as in a start
 * @throws not-found; the start's errors
 */
export async function restartContainer(
  context: EngineContext,
  reference: string,
  { clientToken = "", ...options }: RestartOptions,
  left: AbortSignal,
  ports?: FrontendPorts,
): Promise<void> {
  const repeated = repeatedStart(
    context.live.of(findContainer(context.state, reference).id),
    clientToken,
    left,
  );
  if (repeated !== undefined) {
    await repeated;
    return;
  }
  const record = await containerOnceStarted(context, reference, left, "wait");
  if (clientToken !== "" && record.startToken === clientToken) {
    return; // Same as for a start.
  }
  const live = context.live.of(record.id);
  await withErrorPrefix(`Cannot restart container ${reference}`, async () => {
    try {
      if (stopRefusal(record) === undefined) {
        const order = stopOrder(record, options);
        live.run.endForRestart();
        await endRun(context, record, order, left);
      }
      await startContainer(context, record.id, "user", ports, left, { clientToken });
    } catch (error) {
      if (!isErrorKind(error, "not-modified")) {
        throw error;
      }
    } finally {
      live.run.endRestart();
    }
  });
  await context.state.commit((change) =>
    change.event(containerEvent(context.state.containers.get(record.id) ?? record, "restart")),
  );
}
