/** Creation of a container: its steps in order, and how they are undone. */
import { messageOf, notFound } from "../../../../common/errors.ts";
import { newId, shortId } from "../../../../common/ids.ts";
import type { CreateContainerRequest } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import {
  type ContainerRecord,
  type ImageRecord,
  Phase,
} from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../../context.ts";
import { tellUnapplied } from "./unapplied-settings.ts";
import { containerEvent } from "../../events/decisions/container-events.ts";
import { nameFor } from "../decisions/names.ts";
import { configOf, withFields } from "../../../model/records.ts";
import { withScopedSignal } from "../../../concurrency/scoped-signal.ts";
import { throwIfShuttingDown } from "../../work/shutting-down.ts";
import { ownVolumes } from "../../volumes/decisions/volumes.ts";
import { discardVolume } from "../../volumes/volumes.ts";
import { workloadOf } from "./workload.ts";
import { keepTrying } from "../../work/keep-trying.ts";
import { claimVolumes } from "./claim-volumes.ts";
import { planContainer } from "./plan-container.ts";

/** The result of a creation. */
export interface CreatedContainer {
  readonly id: string;
  readonly warnings: readonly string[];
}

/**
 * Creates a container from a request.
 *
 * @throws not-found: the image; conflict: the name; invalid; not-implemented: settings, by name
 */
export async function createContainer(
  context: EngineContext,
  request: CreateContainerRequest,
): Promise<CreatedContainer> {
  const planned = await planContainer(context, request);
  // No await between the check of the name and the commit that reserves it.
  const reserved = identified(context, planned.record, request.name);
  const { id } = reserved;
  let record = reserved;
  let unapplied: readonly string[];
  await context.state.commit((change) => change.containers.put(reserved));
  try {
    await makeImagesReady(context, planned.images);
    record = await claimVolumes(context, record, planned.mounts);
    unapplied = tellUnapplied(context, record);
    await context.driver.workloads.create(workloadOf(context, record, "not-yet"));
  } catch (error) {
    throwIfShuttingDown(context, error);
    await discard(context, context.state.containers.get(id) ?? record);
    throw error;
  }
  const finished = withFields(record, { phase: Phase.UNSPECIFIED });
  await context.state.commit((change) => {
    change.containers.put(finished);
    change.event(containerEvent(finished, "create"));
  });
  return { id, warnings: [...planned.warnings, ...unapplied, ...waitWarnings(context)] };
}

/** Images of a container whose record is committed: in use from then on; one may have been removed before. */
async function makeImagesReady(
  { images, state, shutdown }: EngineContext,
  used: readonly ImageRecord[],
): Promise<void> {
  const gone = used.find((image) => !state.images.has(image.id));
  if (gone !== undefined) {
    throw notFound(`No such image: ${gone.id}`);
  }
  for (const image of used) {
    await withScopedSignal(shutdown, (signal) => images.makeReady(image, signal));
  }
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
  try {
    await takeAway(context, record);
  } catch (error) {
    context.logger.warn(
      { err: error, container: record.id },
      `cannot take away a container yet that could not be created: ${messageOf(error)}`,
    );
    const what = `take away container ${record.id}, which could not be created`;
    void context.background.run(what, () => keepTrying(context, what, () => takeAway(context, record)));
  }
}

async function takeAway(context: EngineContext, record: ContainerRecord): Promise<void> {
  await context.driver.workloads.remove(record.id);
  for (const volume of ownVolumes(context.state, record)) {
    await discardVolume(context, volume);
  }
  await context.state.commit((change) => change.containers.delete(record.id));
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
