/** Creates a container: the steps in order, each with its undo. */
import { messageOf, notFound } from "../../../../common/errors.ts";
import { newId, shortId } from "../../../../common/ids.ts";
import type { CreateContainerRequest } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import {
  type ContainerRecord,
  type ImageRecord,
  Phase,
} from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../../context.ts";
import { logUnapplied } from "./unapplied-settings.ts";
import { containerEvent } from "../../events/decisions/container-events.ts";
import { nameFor } from "../decisions/names.ts";
import { configOf, withFields } from "../../../model/records.ts";
import { withScopedSignal } from "../../../concurrency/scoped-signal.ts";
import { throwIfShuttingDown } from "../../work/shutting-down.ts";
import { ownVolumes } from "../../volumes/decisions/volumes.ts";
import { discardVolume } from "../../volumes/volumes.ts";
import { workloadOf } from "./workload.ts";
import { keepTrying } from "../../work/keep-trying.ts";
import type { PlannedMount } from "../decisions/mounts/plan-mounts.ts";
import { type Verb, performSteps, undoSteps } from "../../work/steps.ts";
import { claimVolumes } from "./claim-volumes.ts";
import { planContainer } from "./plan-container.ts";

/** The result of a creation. */
export interface CreatedContainer {
  readonly id: string;
  readonly warnings: readonly string[];
}

/** A creation whose record exists. */
interface Begun {
  readonly context: EngineContext;
  /** As committed; before the commit, as planned. */
  record: ContainerRecord;
}

/** State shared by the steps of one creation. */
interface Creation extends Begun {
  /** The requested name; empty to generate one. */
  readonly name: string;
  readonly images: readonly ImageRecord[];
  readonly mounts: readonly PlannedMount[];
  readonly warnings: string[];
}

/** The steps of a creation. A backend that finds one unfinished at its start undoes it. */
export const createSteps: Verb<Creation, Begun> = {
  name: "create",
  steps: [
    { name: "reserve", run: reserve, undo: deleteRecord },
    { name: "images", run: makeImagesReady },
    { name: "volumes", run: claimAll, undo: discardVolumes },
    { name: "workload", run: createWorkload, undo: removeWorkload },
    { name: "record", run: recordCreated },
  ],
  failed: async ({ context, record }, error) => {
    throwIfShuttingDown(context, error);
    await discard(context, context.state.containers.get(record.id) ?? record);
    return error;
  },
};

/**
 * Creates a container from a request.
 *
 * @throws not-found: the image; conflict: the name; invalid; not-implemented: settings, by name
 */
export async function createContainer(
  context: EngineContext,
  request: CreateContainerRequest,
): Promise<CreatedContainer> {
  const { record, images, mounts, warnings } = await planContainer(context, request);
  const creation = { context, record, name: request.name, images, mounts, warnings };
  await performSteps(createSteps, creation);
  return { id: creation.record.id, warnings: [...warnings, ...waitWarnings(context)] };
}

/** Reserves ID and name. Awaits nothing between the check of the name and the commit that reserves it. */
async function reserve(creation: Creation): Promise<void> {
  const { context, record, name } = creation;
  const reserved = identified(context, record, name);
  creation.record = reserved;
  await context.state.commit((change) => change.containers.put(reserved));
}

async function deleteRecord({ context, record }: Begun): Promise<void> {
  await context.state.commit((change) => change.containers.delete(record.id));
}

/**
 * Prepares the images of a container whose record is committed: from then on they are in use; one may have been removed
 * before.
 */
async function makeImagesReady({ context, images: used }: Creation): Promise<void> {
  const { images, state, shutdown } = context;
  const gone = used.find((image) => !state.images.has(image.id));
  if (gone !== undefined) {
    throw notFound(`No such image: ${gone.id}`);
  }
  for (const image of used) {
    await withScopedSignal(shutdown, (signal) => images.makeReady(image, signal));
  }
}

async function claimAll(creation: Creation): Promise<void> {
  const { context, record, mounts, warnings } = creation;
  creation.record = await claimVolumes(context, record, mounts);
  warnings.push(...logUnapplied(context, creation.record));
}

async function discardVolumes({ context, record }: Begun): Promise<void> {
  for (const volume of ownVolumes(context.state, record)) {
    await discardVolume(context, volume);
  }
}

async function createWorkload({ context, record }: Creation): Promise<void> {
  await context.driver.workloads.create(workloadOf(context, record, "not-yet"));
}

async function removeWorkload({ context, record }: Begun): Promise<void> {
  await context.driver.workloads.remove(record.id);
}

async function recordCreated({ context, record }: Creation): Promise<void> {
  const finished = withFields(record, { phase: Phase.UNSPECIFIED });
  await context.state.commit((change) => {
    change.containers.put(finished);
    change.event(containerEvent(finished, "create"));
  });
}

/** Warns of a possible wait at the start, which the attached client would not see. */
function waitWarnings({ live }: EngineContext): readonly string[] {
  const [reason, ...others] = live.waits;
  if (reason === undefined) {
    return [];
  }
  const who = others.length === 0 ? "another container waits" : `${others.length + 1} other containers wait`;
  return [`${who} to be started, and this one may have to wait, too: ${reason}`];
}

/**
 * Removes a container whose creation has failed; its name stays reserved until then. A failed removal is retried in the
 * background until it succeeds; if the backend ends first, its next start continues.
 */
export async function discard(context: EngineContext, record: ContainerRecord): Promise<void> {
  const takeAway = () => undoSteps(createSteps, { context, record });
  try {
    await takeAway();
  } catch (error) {
    context.logger.warn(
      { err: error, container: record.id },
      `cannot take away a container yet that could not be created: ${messageOf(error)}`,
    );
    const what = `take away container ${record.id}, which could not be created`;
    void context.background.run(what, () => keepTrying(context, what, takeAway));
  }
}

/**
 * A planned container with its name, ID and default host name.
 *
 * @throws invalid, conflict: the name
 */
function identified(
  { facts, state }: EngineContext,
  planned: ContainerRecord,
  asked: string,
): ContainerRecord {
  const id = newId();
  const name = nameFor(state, id, asked);
  const config = configOf(planned);
  const ownHostname = planned.hostConfig?.networkMode === "host" ? facts.name : shortId(id);
  return withFields(planned, {
    id,
    name,
    config: { ...config, hostname: config.hostname || ownHostname },
  });
}
