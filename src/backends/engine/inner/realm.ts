/**
 * The objects visible to a client at the Docker socket inside a container: those created through the socket, the
 * container itself, its networks, and the images that it has pulled or that these containers use. For the client
 * nothing else exists.
 */
import { notFound } from "../../../common/errors.ts";
import type { HostConfig, Platform } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import type { Network } from "../../../gen/sockerless/backend/v1/network_pb.ts";
import type {
  ContainerRecord,
  ImageRecord,
  VolumeRecord,
} from "../../../gen/sockerless/state/v1/state_pb.ts";
import { familiarString, parseNamed, withDefaultTag } from "../../images/reference.ts";
import { creatorLabel, creatorOf, keepLabel, type Labels } from "../../model/inner-socket-labels.ts";
import { imagesOf } from "../../state/container-table.ts";
import { hasEndpointOn } from "../../model/endpoints.ts";
import { configOf, hostConfigOf, isVisible } from "../../model/records.ts";
import type { EngineContext } from "../context.ts";
import { findNetwork, isMade as isNetworkMade, type KnownNetwork } from "../networks/decisions/networks.ts";
import { isMade as isVolumeMade } from "../volumes/decisions/volumes.ts";
import type { PulledImages } from "./pulled-images.ts";

interface Visible {
  readonly containers: readonly ContainerRecord[];
  /** By name and by ID. */
  readonly byReference: ReadonlyMap<string, ContainerRecord>;
  /** IDs of the images in use. */
  readonly images: ReadonlySet<string>;
  /** Filled as references are looked up. */
  readonly byPrefix: Map<string, ContainerRecord | undefined>;
}

/** The realm of one container. */
export class Realm {
  readonly context: EngineContext;
  readonly pulled: PulledImages;
  readonly #root: ContainerRecord;
  #visible: Visible | undefined;

  /**
   * @param acting ID of the container at whose socket the client is
   * @throws not-found: it, or its creator, is gone
   */
  constructor(context: EngineContext, pulled: PulledImages, acting: string) {
    this.context = context;
    this.pulled = pulled;
    const { containers } = context.state;
    const of = containers.get(acting);
    const root = of && containers.get(creatorOf(configOf(of).labels) ?? of.id);
    if (of === undefined || root === undefined || !isVisible(of) || !isVisible(root)) {
      throw notFound("the container of this Docker socket is gone");
    }
    this.#root = root;
  }

  /** ID of the container that owns the realm. */
  get id(): string {
    return this.#root.id;
  }

  /** The host configuration of that container. */
  get hostConfig(): HostConfig {
    return hostConfigOf(this.#root);
  }

  /** Whether the container still exists. */
  get isAlive(): boolean {
    const root = this.context.state.containers.get(this.id);
    return root !== undefined && isVisible(root);
  }

  /** Labels of a new object: the requested ones, without sockerless's own except the one to keep the object. */
  labelsFor(asked: Labels): Record<string, string> {
    const own = Object.entries(asked).filter(
      ([name]) => name === keepLabel || !name.startsWith("sockerless."),
    );
    return { ...Object.fromEntries(own), [creatorLabel]: this.id };
  }

  /** Whether an object was created through the socket. */
  hasMade(labels: Labels): boolean {
    return creatorOf(labels) === this.id;
  }

  seesContainer(record: ContainerRecord): boolean {
    return record.id === this.id || this.hasMade(configOf(record).labels);
  }

  seesContainerOfId(id: string): boolean {
    const record = this.context.state.containers.get(id);
    return record !== undefined && this.seesContainer(record);
  }

  /** The visible containers. */
  containers(): readonly ContainerRecord[] {
    return this.#seen().containers;
  }

  /** The visible objects, found once in a turn of the event loop: a request may refer to thousands. */
  #seen(): Visible {
    if (this.#visible === undefined) {
      const containers = [...this.context.state.containers.values()].filter(
        (record) => isVisible(record) && this.seesContainer(record),
      );
      this.#visible = {
        containers,
        byReference: new Map(
          containers.flatMap((each) => [[each.name, each] as const, [each.id, each] as const]),
        ),
        images: new Set(containers.flatMap(imagesOf)),
        byPrefix: new Map(),
      };
      setImmediate(() => {
        this.#visible = undefined;
      });
    }
    return this.#visible;
  }

  /** Resolves a full ID, a name, or an unambiguous prefix of an ID. @throws not-found */
  container(reference: string): ContainerRecord {
    const { byReference, byPrefix } = this.#seen();
    const exact = byReference.get(reference) ?? byReference.get(reference.replace(/^\//, ""));
    if (exact === undefined && !byPrefix.has(reference)) {
      const [first, ...others] = this.context.state.containers
        .startingWith(reference)
        .filter((each) => isVisible(each) && this.seesContainer(each));
      byPrefix.set(reference, others.length === 0 ? first : undefined);
    }
    const found = exact ?? byPrefix.get(reference);
    if (found === undefined) {
      throw notFound(`No such container: ${reference}`);
    }
    return found;
  }

  /** Whether the container is in the network, or has created it. */
  seesNetwork(network: Network): boolean {
    return this.hasMade(network.labels) || this.isIn(network);
  }

  /** Whether the container itself is in the network. */
  isIn(network: Network): boolean {
    return hasEndpointOn(this.#root, network);
  }

  /** Refuses a start of the container itself on a network that has taken the name of one of its own. @throws not-found */
  refuseReplacedNetworks(id: string): void {
    for (const [name, { networkId }] of id === this.id ? Object.entries(this.#root.endpoints) : []) {
      if (this.context.state.networks.named(name)?.network?.id !== networkId) {
        throw notFound(`network ${name} not found`);
      }
    }
  }

  /** Those of the networks with these names that were not created through the socket. */
  othersNetworks(names: readonly string[]): ReadonlySet<string> {
    const isOthers = (name: string): boolean =>
      !this.hasMade(this.context.state.networks.named(name)?.network?.labels ?? {});
    return new Set(names.filter(isOthers));
  }

  networks(): KnownNetwork[] {
    return [...this.context.state.networks.values()]
      .filter(isNetworkMade)
      .filter(({ network }) => this.seesNetwork(network));
  }

  /** As {@link container}. @throws not-found; invalid: ambiguous among the visible ones */
  network(reference: string): Network {
    return findNetwork(this.context.state, reference, (network) => this.seesNetwork(network)).network;
  }

  /** A network that was created through the socket. @throws as {@link network} */
  madeNetwork(reference: string): Network {
    const network = this.network(reference);
    if (!this.hasMade(network.labels)) {
      throw notFound(`network ${reference} not found`);
    }
    return network;
  }

  seesVolume({ name, labels }: Pick<VolumeRecord, "name" | "labels">): boolean {
    const isAnonymous = (each: ContainerRecord): boolean =>
      isVisible(each) && this.seesContainer(each) && each.anonymousVolumes.includes(name);
    return this.hasMade(labels) || this.context.state.containers.withVolume(name).some(isAnonymous);
  }

  seesVolumeOfName(name: string): boolean {
    const record = this.context.state.volumes.get(name);
    return record !== undefined && this.seesVolume(record);
  }

  volumes(): VolumeRecord[] {
    return [...this.context.state.volumes.values()]
      .filter(isVolumeMade)
      .filter((each) => this.seesVolume(each));
  }

  /** @throws not-found */
  volume(name: string): void {
    if (!this.seesVolumeOfName(name)) {
      throw notFound(`get ${name}: no such volume`);
    }
  }

  /**
   * Creates the filter of visible images, by ID, valid while no container is created or removed.
   *
   * @param besides ID of a container whose images do not count
   */
  seesImages(besides = ""): (id: string) => boolean {
    const { containers, images } = this.#seen();
    const used =
      besides === ""
        ? images
        : new Set(containers.flatMap((each) => (each.id === besides ? [] : imagesOf(each))));
    return (id) => this.pulled.has(this.id, id) || used.has(id);
  }

  /**
   * Names by which an image was pulled or used here, without those that others gave it.
   *
   * @param used the visible containers with this image
   */
  namesOfImage(id: string, used: readonly ContainerRecord[]): ReadonlySet<string> {
    return new Set([
      ...this.pulled.namesOf(this.id, id),
      ...used.flatMap((record) => writtenName(configOf(record).image) ?? []),
    ]);
  }

  /** @throws not-found */
  async image(reference: string, platform?: Platform): Promise<ImageRecord> {
    const found = await this.context.images.resolve(reference, platform).catch(() => undefined);
    if (found === undefined || !this.seesImages()(found.record.id)) {
      throw notFound(`No such image: ${reference}`);
    }
    return found.record;
  }
}

/** `name:tag` as users see it; undefined for an ID. */
export function writtenName(reference: string): string | undefined {
  try {
    return familiarString(withDefaultTag(parseNamed(reference)));
  } catch {
    return undefined;
  }
}
