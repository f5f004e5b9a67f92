/** Containers in listings and inspect. */
import { createHash } from "node:crypto";

import { create } from "@bufbuild/protobuf";

import {
  type ContainerDetail,
  ContainerDetailSchema,
  type ContainerSummary,
  type ContainerState,
  ContainerStatus,
  ContainerSummarySchema,
} from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import { isContainerMode } from "../../../model/container-mode.ts";
import type { EngineContext } from "../../context.ts";
import { openExecIds } from "../../execs/execs.ts";
import type { ContainerNames } from "../decisions/links/link-names.ts";
import { shownLinks } from "../decisions/links/links.ts";
import { configOf, hasProcess, hostConfigOf, isActive, stateOf } from "../../../model/records.ts";

/** A container in a listing. */
export function summaryOf(
  context: EngineContext,
  record: ContainerRecord,
  names: ContainerNames,
): ContainerSummary {
  const config = configOf(record);
  const hostConfig = hostConfigOf(record);
  // The image's name is not shown if it refers to another image now.
  const meansSame = config.image === record.imageId || context.images.idOf(config.image) === record.imageId;
  return create(ContainerSummarySchema, {
    id: record.id,
    names: names.of(record),
    image: meansSame ? config.image : record.imageId,
    imageId: record.imageId,
    path: record.path,
    args: record.args,
    ...(record.created === undefined ? {} : { created: record.created }),
    ports: hasProcess(record) ? record.boundPorts : [],
    labels: config.labels,
    state: withoutHealthLog(shownState(context, record)),
    networkMode: hostConfig.networkMode,
    annotations: hostConfig.annotations,
    networks: record.endpoints,
    mounts: record.mounts,
  });
}

/** A container's inspect. */
export function detailOf(context: EngineContext, record: ContainerRecord): ContainerDetail {
  return create(ContainerDetailSchema, {
    id: record.id,
    ...(record.created === undefined ? {} : { created: record.created }),
    path: record.path,
    args: record.args,
    state: shownState(context, record),
    imageId: record.imageId,
    name: `/${record.name}`,
    restartCount: record.restartCount,
    driver: context.facts.storageDriver,
    ...(record.platform === undefined ? {} : { platform: record.platform }),
    execIds: openExecIds(context, record),
    config: configOf(record),
    hostConfig: { ...hostConfigOf(record), links: shownLinks(context.state, record) },
    mounts: record.mounts,
    // A container has none before its first start, as in dockerd.
    ...(record.generation > 0n &&
      context.driver.workloads.nameFilePaths(record, (id) => context.state.containers.get(id))),
    startPhases: context.live.peek(record.id)?.run.start?.phases.list ?? record.startPhases,
    networkSettings: {
      ...sandboxOf(record),
      ports: hasProcess(record) ? record.boundPorts : [],
      networks: record.endpoints,
    },
  });
}

function withoutHealthLog(state: ContainerState): ContainerState {
  return state.health === undefined ? state : { ...state, health: { ...state.health, log: [] } };
}

function shownState(context: EngineContext, record: ContainerRecord): ContainerState {
  const waitsFor = context.live.peek(record.id)?.run.start?.waitsFor ?? "";
  const state = { ...stateOf(record), waitsFor };
  // A container that is being removed shows as running until it has ended.
  const removing = context.live.peek(record.id)?.run.isRemoving === true && !isActive(record);
  return removing ? { ...state, status: ContainerStatus.REMOVING } : state;
}

/**
 * Network sandbox of a container's run; empty strings if it does not run or shares another's network. The ID is
 * derived, as nothing else refers to it.
 */
function sandboxOf(record: ContainerRecord): { readonly sandboxId: string; readonly sandboxKey: string } {
  if (!isActive(record) || isContainerMode(hostConfigOf(record).networkMode)) {
    return { sandboxId: "", sandboxKey: "" };
  }
  const sandboxId = createHash("sha256").update(`${record.id} ${record.generation}`).digest("hex");
  return { sandboxId, sandboxKey: record.networkNamespace };
}
