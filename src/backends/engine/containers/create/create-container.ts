/** Making a container: everything is checked before anything is made, and what was made goes when the rest fails. */
import { stat } from "node:fs/promises";

import { create } from "@bufbuild/protobuf";

import {
  errnoOf,
  invalid,
  isErrorKind,
  messageOf,
  notFound,
  notImplemented,
} from "../../../../common/errors.ts";
import { newId, shortId } from "../../../../common/ids.ts";
import { HostConfigSchema, NetworkingConfigSchema } from "../../../../gen/sockerless/backend/v1/config_pb.ts";
import {
  ContainerStateSchema,
  ContainerStatus,
  type CreateContainerRequest,
  type MountPoint,
} from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import {
  type ContainerRecord,
  ContainerRecordSchema,
  Phase,
} from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../../context.ts";
import { discardMissingLimits } from "../decisions/config/discarded-limits.ts";
import { withHostDefaults } from "../decisions/config/host-defaults.ts";
import { commandOf, mergeConfig, requireCommand } from "../decisions/config/merge-config.ts";
import { validateConfig, validateHostConfig, validateTogether } from "../decisions/config/validate-config.ts";
import { validateResources } from "../decisions/config/validate-resources.ts";
import { tellUnapplied } from "./unapplied-settings.ts";
import { warningsOf } from "../decisions/config/warnings.ts";
import { containerEvent } from "../../events/decisions/container-events.ts";
import { requireDonors } from "../decisions/joined-containers.ts";
import { planLinks } from "../decisions/links/links.ts";
import { findContainer } from "../decisions/lookup.ts";
import { imageMountWarning, planImageMounts } from "../decisions/mounts/image-mounts.ts";
import { bindSourceMissing } from "../decisions/mounts/validate-mount.ts";
import { type PlannedMount, planMounts } from "../decisions/mounts/plan-mounts.ts";
import { nameFor } from "../decisions/names.ts";
import { plannedEndpoints, validateNetworking } from "../../networks/decisions/endpoints.ts";
import { isOfBuild } from "../../../model/build-label.ts";
import { configOf, resourcesOf, timestampOfNs, withFields } from "../../../model/records.ts";
import { withScopedSignal } from "../../../concurrency/scoped-signal.ts";
import { throwIfShuttingDown } from "../../work/shutting-down.ts";
import { admissionTo } from "../../volumes/decisions/exclusive-volumes.ts";
import { ownVolumes } from "../../volumes/decisions/volumes.ts";
import { discardVolume, ensureVolume } from "../../volumes/volumes.ts";
import { workloadOf } from "./workload.ts";
import { keepTrying } from "../../work/keep-trying.ts";

/** The answer to a creation. */
export interface CreatedContainer {
  readonly id: string;
  readonly warnings: readonly string[];
}

/**
 * Makes a container from a request.
 *
 * @throws not-found: the image; conflict: the name; invalid; not-implemented: settings, by name
 */
export async function createContainer(
  context: EngineContext,
  request: CreateContainerRequest,
): Promise<CreatedContainer> {
  const planned = await planContainer(context, request);
  // No await between the check of the name and the commit that takes it.
  const reserved = identified(context, planned.record, request.name);
  const { id } = reserved;
  let record = reserved;
  let unapplied: readonly string[];
  await context.state.commit((change) => change.containers.put(reserved));
  try {
    // From the commit on the image is in use; before it, somebody may have removed it.
    const gone = planned.images.find((image) => !context.state.images.has(image.id));
    if (gone !== undefined) {
      throw notFound(`No such image: ${gone.id}`);
    }
    for (const image of planned.images) {
      await withScopedSignal(context.shutdown, (signal) => context.images.makeReady(image, signal));
    }
    record = await withVolumes(context, record, planned.mounts);
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

/** Tells a user who is about to attach and to start, which shows nothing of a wait, that there may be one. */
function waitWarnings({ live }: EngineContext): readonly string[] {
  const [reason, ...others] = live.waits;
  if (reason === undefined) {
    return [];
  }
  const who = others.length === 0 ? "another container waits" : `${others.length + 1} other containers wait`;
  return [`${who} to be started, and this one may have to wait, too: ${reason}`];
}

/**
 * Takes away a container whose creation has failed; till then its name is taken. A failure is tried again
 * behind the return until it works; if the backend ends first, its next start goes on with it.
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
 * A planned container with its name, its ID, and the host name that follows from it.
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

/** The container as far as nobody has to name it. @throws as {@link createContainer} */
async function planContainer(context: EngineContext, request: CreateContainerRequest) {
  const { driver, state, facts } = context;
  if (request.config === undefined) {
    throw invalid("config cannot be empty in order to create a container");
  }
  const said = request.config;
  const saidToHost = request.hostConfig ?? create(HostConfigSchema);
  const networking = request.networking ?? create(NetworkingConfigSchema);
  validateTogether(said, saidToHost);
  validateConfig(said);
  validateHostConfig(saidToHost);
  validateResources(resourcesOf(saidToHost), facts);
  const limits = discardMissingLimits(resourcesOf(saidToHost), facts.missingLimits);
  validateNetworking(networking);
  if (said.image === "") {
    requireCommand(said); // The error that dockerd answers an empty configuration with.
    throw invalid("no image was specified");
  }
  const image = await context.images.resolve(said.image, request.platform);
  const hostConfig = withHostDefaults({ ...saidToHost, resources: limits.resources }, facts, (reference) =>
    idOfContainer(context, reference),
  );
  requireDonors(state, hostConfig);
  const config = mergeConfig(said, image.config);
  const mounts = planMounts(
    config,
    hostConfig,
    (reference) => findDonor(context, reference),
    driver.hostPaths.kind === "mounted" ? driver.hostPaths.stateDirectory : undefined,
  );
  await refuseMissingSources(context, mounts);
  const { path, args } = commandOf(config);
  const mounted = await planImageMounts(context.images, hostConfig.mounts);
  const record = create(ContainerRecordSchema, {
    created: timestampOfNs(context.clock.nowNs()),
    config,
    hostConfig,
    networking,
    ...(image.record.platform === undefined ? {} : { platform: image.record.platform }),
    imageId: image.record.id,
    layerDiffIds: image.record.diffIds,
    imageMounts: [...mounted.mounts],
    takenSubpaths: takenSubpaths(mounts),
    links: planLinks(state, hostConfig),
    state: create(ContainerStateSchema, { status: ContainerStatus.CREATED }),
    phase: Phase.CREATING,
    path,
    args,
    endpoints: config.networkDisabled
      ? {}
      : plannedEndpoints(state, hostConfig.networkMode, config.macAddress, networking),
    clientToken: request.clientToken,
  });
  refuseUnsupported(context, record, said.healthcheck !== undefined);
  const warnings = [
    ...limits.warnings,
    ...(isOfBuild(config.labels) ? [] : mounted.mounts.map(() => imageMountWarning)),
    ...warningsOf(record, driver.capabilities.healthChecks, said.healthcheck !== undefined),
  ];
  return { record, images: [image.record, ...mounted.images], mounts, warnings };
}

/** Subpaths, by destination, of volumes taken from other containers (`VolumesFrom`), as those mount them. */
function takenSubpaths(mounts: readonly PlannedMount[]): Record<string, string> {
  return Object.fromEntries(
    mounts.flatMap(({ point, taken }) => (taken === undefined ? [] : [[point.destination, taken.subpath]])),
  );
}

function refuseUnsupported(context: EngineContext, record: ContainerRecord, ownHealthcheck: boolean): void {
  const { driver } = context;
  const endpoints = Object.values(record.networking?.endpoints ?? {});
  const hasLinkLocal = endpoints.some(({ linkLocalIps }) => linkLocalIps.length > 0);
  const asksForCheck = ownHealthcheck && record.config?.healthcheck?.test[0] !== "NONE";
  const names = new Set([
    ...(hasLinkLocal && driver.networks.bridgeSettings === "apply" ? ["--link-local-ip"] : []),
    ...(asksForCheck && !driver.capabilities.healthChecks ? ["--health-cmd"] : []),
    ...driver.settings.unsupported(record),
  ]);
  if (names.size > 0) {
    throw notImplemented(`the ${driver.name} backend does not support ${[...names].join(", ")}`);
  }
}

async function withVolumes(
  context: EngineContext,
  record: ContainerRecord,
  mounts: readonly PlannedMount[],
): Promise<ContainerRecord> {
  if (mounts.length === 0) {
    return record; // It is in the state as it is.
  }
  let next = record;
  for (const { point, volume, taken } of mounts) {
    if (volume === undefined) {
      next = withFields(next, { mounts: [...next.mounts, point] });
      continue;
    }
    await ensureVolume(context, volume, {
      admit: (known) => {
        const { rules } = context.driver.volumes;
        const admission = admissionTo(context.state, rules, known, next, taken !== undefined);
        if (admission.kind === "refused") {
          throw admission.error;
        }
        if (admission.kind === "after") {
          next = withFields(next, { replaces: admission.ownerId });
        }
      },
      claim: (change, name) => {
        if (volume.name === "") {
          next = withFields(next, { anonymousVolumes: [...next.anonymousVolumes, name] });
          change.containers.put(next);
        }
      },
      use: (change, { name, driver, mountpoint }) => {
        const mounted: MountPoint = { ...point, name, driver, source: mountpoint };
        next = withFields(next, {
          mounts: [...next.mounts, mounted],
          // Goes with whoever is the last to have it.
          ...(taken?.isAnonymous === true ? { anonymousVolumes: [...next.anonymousVolumes, name] } : {}),
        });
        change.containers.put(next);
      },
    });
  }
  const whole = next;
  await context.state.commit((change) => change.containers.put(whole));
  return whole;
}

async function refuseMissingSources(context: EngineContext, mounts: readonly PlannedMount[]): Promise<void> {
  const { hostPaths } = context.driver;
  if (hostPaths.kind === "ignored") {
    return;
  }
  for (const { point, mustExist } of mounts) {
    if (point.type !== "bind" || mustExist !== true || hostPaths.isSupplied(point.source)) {
      continue;
    }
    try {
      await stat(point.source);
    } catch (error) {
      if (errnoOf(error) === "ENOENT" || errnoOf(error) === "ENOTDIR") {
        throw bindSourceMissing(point.source);
      }
      throw error;
    }
  }
}

/**
 * The container that `VolumesFrom` names. A missing one is a mistake in the request, as in Docker: for a 404
 * the CLI would pull the image and try again.
 */
function findDonor({ state }: EngineContext, reference: string): ContainerRecord {
  try {
    return findContainer(state, reference);
  } catch (error) {
    throw isErrorKind(error, "not-found") ? invalid(messageOf(error), error) : error;
  }
}

function idOfContainer(context: EngineContext, reference: string): string {
  try {
    return findContainer(context.state, reference).id;
  } catch {
    return reference; // The start will say that it does not exist, as Docker's does.
  }
}
