/** Events of containers in moby's form. Pure. */
import type { MountPoint, NetworkEndpoint } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { NewEvent } from "../../../state/journal.ts";
import { builtinNetworks } from "../../networks/decisions/networks.ts";
import { eventLabels } from "../../../model/event-labels.ts";
import { configOf } from "../../../model/records.ts";

/**
 * An event of a container, with its labels, image, name and the event's own attributes.
 *
 * @param timeUnixNs time of the event; default now
 */
export function containerEvent(
  record: ContainerRecord,
  action: string,
  attributes: Readonly<Record<string, string>> = {},
  timeUnixNs?: bigint,
): NewEvent {
  const { labels, image } = configOf(record);
  return {
    type: "container",
    action,
    actorId: record.id,
    attributes: {
      ...eventLabels(labels),
      ...attributes,
      ...(image === "" ? {} : { image }),
      name: record.name,
    },
    ...(timeUnixNs === undefined ? {} : { timeUnixNs }),
  };
}

/** The container joined its networks, or left them. */
export function networkEvents(
  record: ContainerRecord,
  endpoints: Readonly<Record<string, NetworkEndpoint>>,
  action: "connect" | "disconnect",
  timeUnixNs?: bigint,
): NewEvent[] {
  return Object.entries(endpoints)
    .filter(([, endpoint]) => endpoint.endpointId !== "")
    .map(([name, endpoint]) => ({
      type: "network",
      action,
      actorId: endpoint.networkId,
      attributes: { container: record.id, name, type: builtinNetworks.get(name) ?? "bridge" },
      ...(timeUnixNs === undefined ? {} : { timeUnixNs }),
    }));
}

/** The container's volumes were mounted. */
export function mountEvents(record: ContainerRecord): NewEvent[] {
  return volumesOf(record).map((point) => ({
    type: "volume",
    action: "mount",
    actorId: point.name,
    attributes: {
      driver: point.driver,
      container: record.id,
      destination: point.destination,
      "read/write": String(point.rw),
      propagation: point.propagation,
    },
  }));
}

/** The container's volumes were unmounted. */
export function unmountEvents(record: ContainerRecord, timeUnixNs: bigint): NewEvent[] {
  return volumesOf(record).map((point) => ({
    type: "volume",
    action: "unmount",
    actorId: point.name,
    attributes: { driver: point.driver, container: record.id },
    timeUnixNs,
  }));
}

function volumesOf(record: ContainerRecord): readonly MountPoint[] {
  return record.mounts.filter((point) => point.type === "volume");
}
