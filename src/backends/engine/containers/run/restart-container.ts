/** Restarts a container: a stop and a start. */
import { isErrorKind } from "../../../../common/errors.ts";
import { newId } from "../../../../common/ids.ts";
import { ContainerStatus } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import { hostConfigOf, isVisible, stateOf, withFields } from "../../../model/records.ts";
import type { EngineContext } from "../../context.ts";
import { containerEvent } from "../../events/decisions/container-events.ts";
import { withErrorPrefix } from "../../work/error-prefix.ts";
import { stopRefusal } from "../decisions/life/refusals.ts";
import { findContainer } from "../decisions/lookup.ts";
import { isUpOrComing } from "../live/up-or-coming.ts";
import { type FrontendPorts, startContainer } from "../start/start-container.ts";
import { containerOnceStarted, repeatedStart } from "../start/start-under-way.ts";
import { greeted } from "./send-signal.ts";
import { endRun, killTimeMs, type StopOptions, stopOrder } from "./stop-container.ts";

/** Maximum wait for an agent's word before a restart is finished: one that calls does so within seconds. */
const agentLimitMs = 10_000;

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
  const record = findContainer(context.state, reference);
  const { id } = record;
  const live = context.live.of(id);
  const repeated = repeatedStart(live, clientToken, left);
  if (repeated !== undefined) {
    await repeated;
    return;
  }
  const isRepeated = live.restartCalls.has(clientToken);
  using _call = live.restartCalls.add(clientToken, left); // If an earlier call is lost, the start waits for this one's client.
  if (!isRepeated && live.restarts.isHeld && stopRefusal(record) === undefined) {
    const order = stopOrder(record, options);
    using others = live.leftStops.add(killTimeMs(context, order.timeout), left);
    await endRun(context, record, order, left, others.superseded); // The other restart may wait for its end for longer.
  }
  await live.restarts.run(
    () => restart(context, id, reference, { clientToken, ...options }, left, ports),
    left,
  );
}

/** With the lock of the container's restarts held: each begins and ends what {@link LiveRun} notes of a restart. */
async function restart(
  context: EngineContext,
  id: string,
  reference: string,
  { clientToken, ...options }: StopOptions & { readonly clientToken: string },
  left: AbortSignal,
  ports: FrontendPorts | undefined,
): Promise<void> {
  const record = await containerOnceStarted(context, id, left, "wait");
  if (clientToken !== "" && record.startToken === clientToken) {
    return; // Same as for a start.
  }
  const live = context.live.of(record.id);
  await withErrorPrefix(`Cannot restart container ${reference}`, async () => {
    try {
      if (stopRefusal(record) === undefined) {
        const order = stopOrder(record, options);
        live.run.endForRestart();
        await noteRestart(context, record.id, clientToken);
        await endRun(context, record, order, left);
      }
      await startContainer(context, record.id, "user", ports, left, { clientToken });
    } catch (error) {
      if (!isErrorKind(error, "not-modified")) {
        throw error;
      }
    } finally {
      live.run.endRestart();
      await forgetRestart(context, record.id);
    }
  });
  await context.state.commit((change) =>
    change.event(containerEvent(context.state.containers.get(record.id) ?? record, "restart")),
  );
}

/** Journals the restart of a container that its end would remove. */
async function noteRestart(context: EngineContext, id: string, clientToken: string): Promise<void> {
  const record = context.state.containers.get(id);
  if (record !== undefined && hostConfigOf(record).autoRemove) {
    const restartToken = clientToken || newId();
    await context.state.commit(
      (change) => change.containers.put(withFields(record, { restartToken })),
      "under-way",
    );
  }
}

/**
 * Forgets a restart that is over, and removes a container with `--rm` that is not running again. While the backend ends,
 * both are left to the next process.
 */
async function forgetRestart(context: EngineContext, id: string): Promise<void> {
  const recordNow = (): ContainerRecord | undefined =>
    context.shutdown.aborted ? undefined : context.state.containers.get(id);
  const noted = recordNow();
  if (noted !== undefined && noted.restartToken !== "") {
    await context.state.commit((change) => change.containers.put(withFields(noted, { restartToken: "" })));
  }
  const record = recordNow();
  if (
    record !== undefined &&
    hostConfigOf(record).autoRemove &&
    stateOf(record).status === ContainerStatus.EXITED &&
    !isUpOrComing(context, record)
  ) {
    context.followUps.autoRemove(id);
  }
}

/**
 * Finishes, in the background, a restart of a container with `--rm` that an earlier process of the backend began, unless its
 * agent serves a later start than the state knows, as after the restore of a backup: then it was finished.
 */
export function finishRestart(context: EngineContext, record: ContainerRecord): void {
  const { id, restartToken } = record;
  if (restartToken !== "" && isVisible(record)) {
    void context.background.run(`finish the restart of container ${id}`, async () => {
      await greeted(context.live.of(id), agentLimitMs);
      if (context.state.containers.get(id)?.restartToken === restartToken) {
        await restartContainer(context, id, { signal: "", clientToken: restartToken }, context.shutdown);
      }
    });
  }
}
