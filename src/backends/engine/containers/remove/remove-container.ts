/**
 * Removes a container: the steps in order. For clients it is gone once the call returns; cleanup continues in the
 * background.
 */
import { layersOf } from "../../../state/container-table.ts";
import { conflict, messageOf } from "../../../../common/errors.ts";
import {
  type ContainerRecord,
  Phase,
  type VolumeRecord,
} from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../../context.ts";
import { containerEvent } from "../../events/decisions/container-events.ts";
import type { LiveContainer } from "../live/live.ts";
import { isUpOrComing } from "../live/up-or-coming.ts";
import type { WaitResult } from "../live/waiters.ts";
import { containerOfId, findContainer } from "../decisions/lookup.ts";
import { removeRefusal } from "../decisions/life/refusals.ts";
import { removed } from "../decisions/life/transitions.ts";
import { releaseAddresses } from "../../networks/endpoint-addresses.ts";
import { hasProcess, isActive, isNew, stateOf } from "../../../model/records.ts";
import { ownVolumes } from "../../volumes/decisions/volumes.ts";
import { settleVolume } from "../../volumes/volumes.ts";
import { keepTrying } from "../../work/keep-trying.ts";
import { type Verb, performSteps } from "../../work/steps.ts";
import { ignoreNotRunning, killContainer } from "../run/kill-container.ts";
import { endStart } from "../start/start-under-way.ts";
import { removeLink } from "./remove-link.ts";

/** Options of `docker rm`. */
export interface RemoveOptions {
  readonly force: boolean;
  /** Whether to remove anonymous volumes too. */
  readonly volumes: boolean;
  readonly link: boolean;
}

/** State shared by the steps of one removal, which holds the container's lock. */
interface Removal {
  readonly context: EngineContext;
  readonly live: LiveContainer;
  record: ContainerRecord;
  readonly withVolumes: boolean;
  /** Volumes that are removed with it. */
  volumes: readonly VolumeRecord[];
}

/**
 * The steps of a removal, which is final after the first. A backend that finds one unfinished at its start completes
 * it.
 */
export const removeSteps: Verb<Removal> = {
  name: "remove",
  steps: [
    { name: "record", run: recordRemoval },
    { name: "leave", run: leaveAgent },
    { name: "volumes", run: removeVolumes },
    { name: "tell", run: notifyWaiters },
    { name: "clear", run: clearAway },
  ],
};

/**
 * Removes a container. Waits for a start in progress, as Docker does, and then refuses without force; with force the
 * start is cancelled if its launch may take long or waits for capacity on the platform.
 *
 * @param left ends the wait of a removal without force; what has begun goes on
 * @throws not-found; conflict: it runs and there is no force, or it is already being removed
 */
export async function removeContainer(
  context: EngineContext,
  reference: string,
  options: RemoveOptions,
  left?: AbortSignal,
): Promise<void> {
  const found = findContainer(context.state, reference);
  const { id } = found;
  if (options.link) {
    await removeLink(context, reference, left);
    return;
  }
  const live = context.live.of(id);
  refuseSecond(live, reference);
  if (options.force) {
    await live.run.remove(() => removeByForce(context, live, options));
    return;
  }
  refuseUnstopped(found, reference);
  const { start } = live.run;
  if (start !== undefined && start.waitsFor !== "") {
    throw conflict(
      `cannot remove container ${JSON.stringify(reference)}: its start waits for room: stop the container before removing or force remove`,
    );
  }
  await live.lock.run(async () => {
    refuseSecond(live, reference); // A forced removal may have come first.
    const record = containerOfId(context.state, id, reference);
    refuseUnstopped(record, reference);
    await live.run.remove(() => performSteps(removeSteps, removalOf(context, live, record, options.volumes)));
  }, left);
}

async function removeByForce(
  context: EngineContext,
  live: LiveContainer,
  options: RemoveOptions,
): Promise<void> {
  // It may be restarted between its end and the acquisition of the lock.
  for (;;) {
    await endStart(context, live, "removed");
    const record = containerOfId(context.state, live.id);
    if (isActive(record)) {
      live.run.endWait();
      await killContainer(context, record).catch(ignoreNotRunning);
    }
    const done = await live.lock.run(async () => {
      const current = containerOfId(context.state, live.id);
      if (hasProcess(current)) {
        return false;
      }
      await performSteps(removeSteps, removalOf(context, live, current, options.volumes));
      return true;
    });
    if (done) {
      return;
    }
  }
}

/** Makes the container, its execs and its anonymous volumes invisible. */
async function recordRemoval(removal: Removal): Promise<void> {
  const { context, record, withVolumes } = removal;
  removal.volumes = withVolumes ? ownVolumes(context.state, record) : [];
  removal.record = removed(record);
  await context.state.commit((change) => {
    change.containers.put(removal.record);
    for (const exec of context.state.execs.of(record.id)) {
      change.execs.delete(exec.id);
    }
    for (const volume of removal.volumes) {
      change.volumes.put({ ...volume, phase: Phase.REMOVING });
    }
    change.event({ ...containerEvent(record, "destroy"), ...endOf(record) });
  });
}

function leaveAgent({ live }: Removal): void {
  live.run.leave();
  live.reservations.fail(conflict(`container ${live.id} was removed`));
}

/**
 * Removes volumes that are already invisible; one that cannot be removed now is removed in the background, or at the
 * backend's next start.
 */
async function removeVolumes({ context, live, volumes }: Removal): Promise<void> {
  if (volumes.length > 0) {
    await live.released; // A volume is removed once nothing has it mounted.
  }
  for (const volume of volumes) {
    const remove = (): Promise<void> => settleVolume(context, volume.name);
    try {
      await remove();
    } catch (error) {
      const what = `remove volume ${volume.name}`;
      context.logger.warn({ err: error }, `cannot ${what} yet: ${messageOf(error)}`);
      void context.background.run(what, () => keepTrying(context, what, remove));
    }
  }
}

function notifyWaiters({ context, live, record }: Removal): void {
  live.waiters.notifyRemoval(endOf(record));
  context.followUps.removed(record.id);
}

/** A start that failed told its own caller why: who waits for the removal would be told it twice. */
function endOf(record: ContainerRecord): WaitResult {
  const { exitCode, error } = stateOf(record);
  return { exitCode, error: isNew(record) ? "" : error };
}

/** Cleans up in the background; retried until it succeeds or the backend ends. */
function clearAway({ context, live, record }: Removal): void {
  void context.background.run(`clear away container ${record.id}`, async () => {
    await live.released;
    await keepTrying(context, `clear away container ${record.id}`, () =>
      context.driver.workloads.remove(record.id),
    );
    releaseAddresses(context.addresses, live.kept ?? {});
    await context.state.commit((change) => change.containers.delete(record.id));
    context.live.forget(record.id);
    await context.images.forgetUnusedLayers(layersOf(record));
  });
}

/** Finishes a removal recorded by an earlier process of the backend; its volumes are settled separately. */
export async function resumeRemoval(context: EngineContext, record: ContainerRecord): Promise<void> {
  await performSteps(removeSteps, removalOf(context, context.live.of(record.id), record, false), "leave");
}

function removalOf(
  context: EngineContext,
  live: LiveContainer,
  record: ContainerRecord,
  withVolumes: boolean,
): Removal {
  return { context, live, record, withVolumes, volumes: [] };
}

/**
 * Removes an auto-remove container (`--rm`) with its anonymous volumes; no error if it is gone already.
 *
 * @param afterMs where nobody waits for the removal; one that is started meanwhile stays, and so does one whose backend
 *   ends: the next process removes it
 */
export function removeInBackground(context: EngineContext, containerId: string, afterMs = 0): void {
  void context.background.run(`remove container ${containerId}`, async () => {
    if (afterMs > 0 && !context.live.of(containerId).waiters.awaitRemoval) {
      await context.clock.sleep(afterMs, context.shutdown).catch(() => undefined);
      const record = context.state.containers.get(containerId);
      if (context.shutdown.aborted || (record !== undefined && isUpOrComing(context, record))) {
        return;
      }
    }
    await removeContainer(context, containerId, { force: true, volumes: true, link: false }).catch(
      ignoreNotRunning,
    );
  });
}

/** @throws conflict */
function refuseSecond(live: LiveContainer, reference: string): void {
  if (live.run.isRemoving) {
    throw conflict(`removal of container ${reference} is already in progress`);
  }
}

/** @throws conflict */
function refuseUnstopped(record: ContainerRecord, reference: string): void {
  const refusal = removeRefusal(record, reference);
  if (refusal !== undefined) {
    throw refusal;
  }
}
