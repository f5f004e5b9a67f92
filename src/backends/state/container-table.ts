/** The table of containers, with indexes besides the ID. */
import type { NetworkEndpoint } from "../../gen/sockerless/backend/v1/container_pb.ts";
import { type ContainerRecord, ContainerRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import { isContainerMode } from "../model/container-mode.ts";
import { isRemoved, isUp } from "../model/records.ts";
import { type ForReaders, RecordTable } from "./table.ts";

/** Committed containers; the indexes let a start read only those that concern it. */
export class ContainerTable extends RecordTable<typeof ContainerRecordSchema> {
  readonly #byName = this.indexed(({ name }) => [name]);
  readonly #byPrefix = this.indexedByPrefix();
  readonly #byNetwork = this.indexed(addressedNetworks);
  readonly #byEndpoint = this.indexed(({ endpoints }) =>
    activeEndpointsOf(endpoints).map(({ networkId }) => networkId),
  );
  readonly #byLink = this.indexed(({ links }) => links.map(({ containerId }) => containerId));
  readonly #upAndJoined = this.indexed((record) => (isUp(record) && isJoined(record) ? [""] : []));
  readonly #byImage = this.indexed(imagesOf);
  readonly #byLayer = this.indexed(layersOf);
  readonly #byVolume = this.indexed(mountedVolumes);
  readonly #byToken = this.indexed(({ clientToken }) => (clientToken === "" ? [] : [clientToken]));

  #sharing: object = {};

  constructor() {
    super("container", ContainerRecordSchema, ({ id }) => id, { labelsOf: ({ config }) => config?.labels });
  }

  /** Another object after each change of which containers exist, their names or network modes, or which are up. */
  get sharing(): object {
    return this.#sharing;
  }

  /** Containers with a name, without the slash; several if one is being removed. */
  named(name: string): readonly ContainerRecord[] {
    return this.#byName.get(name);
  }

  /** Containers whose IDs begin with a prefix, which is not empty. */
  startingWith(prefix: string): readonly ContainerRecord[] {
    return this.#byPrefix.startingWith(prefix);
  }

  /** Containers with an address on a network, by network name. */
  addressedOn(network: string): readonly ContainerRecord[] {
    return this.#byNetwork.get(network);
  }

  /** Containers with an active endpoint on a network, by network ID. */
  activeOn(networkId: string): readonly ContainerRecord[] {
    return this.#byEndpoint.get(networkId);
  }

  /** Containers with links (`--link`) to another one, by its ID. */
  linkedTo(containerId: string): readonly ContainerRecord[] {
    return this.#byLink.get(containerId);
  }

  /** Containers that start or run with the network of another one (`--network container:web`). */
  upAndJoined(): readonly ContainerRecord[] {
    return this.#upAndJoined.get("");
  }

  /** Containers of an image, and those that mount it, by its ID. */
  withImage(imageId: string): readonly ContainerRecord[] {
    return this.#byImage.get(imageId);
  }

  /** Whether a container or one of its image mounts has a layer, by its diff ID. */
  hasLayer(diffId: string): boolean {
    return this.#byLayer.count(diffId) > 0;
  }

  /** Containers that mount a volume, by its name. */
  withVolume(volume: string): readonly ContainerRecord[] {
    return this.#byVolume.get(volume);
  }

  /** Containers created by the request with a token (`client_token`). */
  madeWith(clientToken: string): readonly ContainerRecord[] {
    return this.#byToken.get(clientToken);
  }

  protected override replaced(before: ContainerRecord | undefined, after: ContainerRecord | undefined): void {
    super.replaced(before, after);
    if (sharingOf(before) !== sharingOf(after)) {
      this.#sharing = {};
    }
  }
}

/** The table, for readers. */
export type Containers = ForReaders<ContainerTable>;

function sharingOf(record: ContainerRecord | undefined): string {
  const { name, hostConfig } = record ?? {};
  return record === undefined ? "" : [name, hostConfig?.networkMode, isUp(record), isRemoved(record)].join();
}

function isJoined({ hostConfig }: ContainerRecord): boolean {
  return isContainerMode(hostConfig?.networkMode ?? "");
}

/** The IDs of a container's image and of those that it mounts. */
export function imagesOf({ imageId, imageMounts }: ContainerRecord): readonly string[] {
  return [imageId, ...imageMounts.map((mount) => mount.imageId)];
}

/** The layers of a container and of its image mounts, by diff ID. */
export function layersOf({ layerDiffIds, imageMounts }: ContainerRecord): readonly string[] {
  return [...layerDiffIds, ...imageMounts.flatMap((mount) => mount.layerDiffIds)];
}

/** The endpoints that are in use: those of a container that has never started are only planned. */
export function activeEndpointsOf(endpoints: ContainerRecord["endpoints"]): readonly NetworkEndpoint[] {
  return Object.values(endpoints).filter(({ endpointId }) => endpointId !== "");
}

function mountedVolumes({ mounts }: ContainerRecord): string[] {
  return mounts.filter(({ type }) => type === "volume").map(({ name }) => name);
}

function addressedNetworks({ endpoints }: ContainerRecord): string[] {
  return Object.keys(endpoints).filter((name) => (endpoints[name]?.ipAddress ?? "") !== "");
}
