/** Plans a container from a request: validates everything and creates nothing. */
import { create } from "@bufbuild/protobuf";

import { invalid, isErrorKind, messageOf, notImplemented } from "../../../../common/errors.ts";
import { HostConfigSchema, NetworkingConfigSchema } from "../../../../gen/sockerless/backend/v1/config_pb.ts";
import {
  ContainerStateSchema,
  ContainerStatus,
  type CreateContainerRequest,
} from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import {
  type ContainerRecord,
  ContainerRecordSchema,
  Phase,
} from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { EngineContext } from "../../context.ts";
import { discardMissingLimits } from "../decisions/config/discarded-limits.ts";
import { withHostDefaults, withRestartPolicy } from "../decisions/config/host-defaults.ts";
import {
  commandOf,
  mergeConfig,
  refuseLargeImage,
  requireCommand,
} from "../decisions/config/merge-config.ts";
import { validateConfig, validateHostConfig, validateTogether } from "../decisions/config/validate-config.ts";
import { validateResources } from "../decisions/config/validate-resources.ts";
import { requireDonors } from "../decisions/joined-containers.ts";
import { planLinks } from "../decisions/links/links.ts";
import { findContainer } from "../decisions/lookup.ts";
import { imageMountWarning, planImageMounts } from "../decisions/mounts/image-mounts.ts";
import { bindSourceMissing } from "../decisions/mounts/validate-mount.ts";
import { type PlannedMount, planMounts } from "../decisions/mounts/plan-mounts.ts";
import { plannedEndpoints, validateNetworking } from "../../networks/decisions/endpoints.ts";
import { isOfBuild } from "../../../model/build-label.ts";
import { resourcesOf, timestampOfNs } from "../../../model/records.ts";

/** The container without name and ID. @throws as a creation */
export async function planContainer(context: EngineContext, request: CreateContainerRequest) {
  const { driver, state, facts } = context;
  if (request.config === undefined) {
    throw invalid("config cannot be empty in order to create a container");
  }
  const said = request.config;
  const givenHostConfig = withRestartPolicy(request.hostConfig ?? create(HostConfigSchema));
  const networking = request.networking ?? create(NetworkingConfigSchema);
  validateTogether(said, givenHostConfig);
  validateConfig(said);
  validateHostConfig(givenHostConfig);
  validateResources(resourcesOf(givenHostConfig), facts);
  const limits = discardMissingLimits(resourcesOf(givenHostConfig), facts.missingLimits);
  validateNetworking(networking);
  if (said.image === "") {
    requireCommand(said); // Refuses an empty configuration with dockerd's error.
    throw invalid("no image was specified");
  }
  const image = await context.images.resolve(said.image, request.platform);
  const hostConfig = withHostDefaults(
    { ...givenHostConfig, resources: limits.resources },
    facts,
    (reference) => idOfContainer(context, reference),
  );
  requireDonors(state, hostConfig);
  refuseLargeImage(image.config);
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
    takenNonRecursive: mounts.flatMap(({ point, takenNonRecursive }) =>
      takenNonRecursive === true ? [point.destination] : [],
    ),
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
  refuseUnsupported(context, record);
  const warnings = [
    ...limits.warnings,
    ...(isOfBuild(config.labels) ? [] : mounted.mounts.map(() => imageMountWarning)),
    ...(hostConfig.networkMode === "host" && hostConfig.portBindings.length > 0
      ? ["Published ports are discarded when using host network mode"]
      : []),
  ];
  return { record, images: [image.record, ...mounted.images], mounts, warnings };
}

/** Subpaths, by destination, of volumes from other containers (`VolumesFrom`), as mounted there. */
function takenSubpaths(mounts: readonly PlannedMount[]): Record<string, string> {
  return Object.fromEntries(
    mounts.flatMap(({ point, taken }) => (taken === undefined ? [] : [[point.destination, taken.subpath]])),
  );
}

function refuseUnsupported({ driver }: EngineContext, record: ContainerRecord): void {
  const endpoints = Object.values(record.networking?.endpoints ?? {});
  const hasLinkLocal = endpoints.some(({ linkLocalIps }) => linkLocalIps.length > 0);
  const names = new Set([
    ...(hasLinkLocal && driver.networks.bridgeSettings === "apply" ? ["--link-local-ip"] : []),
    ...driver.settings.unsupported(record),
  ]);
  if (names.size > 0) {
    throw notImplemented(`the ${driver.name} backend does not support ${[...names].join(", ")}`);
  }
}

async function refuseMissingSources(context: EngineContext, mounts: readonly PlannedMount[]): Promise<void> {
  const { hostPaths } = context.driver;
  if (hostPaths.kind === "ignored") {
    return;
  }
  for (const { point, mustExist } of mounts) {
    if (point.type === "bind" && mustExist === true && !(await hostPaths.exists(point.source))) {
      throw bindSourceMissing(point.source);
    }
  }
}

/**
 * The container in `VolumesFrom`. A missing one is `invalid`, as in Docker: at a 404 the CLI would pull the image and
 * retry.
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
    return reference; // The start reports that it does not exist, as in Docker.
  }
}
