/**
 * Exclusive volumes, which only one container may use. The claim is in the container's own record: a container that
 * mounts such a volume owns it until the container's removal is recorded. Pure.
 */
import { conflict, type SockerlessError } from "../../../../common/errors.ts";
import { shortId } from "../../../../common/ids.ts";
import type { Volume } from "../../../../gen/sockerless/backend/v1/volume_pb.ts";
import type { ContainerRecord, VolumeRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { VolumeRules } from "../../../driver/volumes.ts";
import type { State } from "../../../state/state.ts";
import { containersWith, volumeOf } from "./volumes.ts";

/** Label by which compose marks a container that it creates before it removes the replaced one. */
const replaceLabel = "com.docker.compose.replace";

/** Whether a volume's driver makes it exclusive. */
function isExclusive({ drivers }: VolumeRules, { driver }: VolumeRecord): boolean {
  return drivers.some(({ name, sharing }) => name === driver && sharing === "exclusive");
}

/** The owner of an exclusive volume. A container that replaces another owns it once that one is gone. */
function ownerOf(state: State, name: string): ContainerRecord | undefined {
  const users = containersWith(state, name);
  return users.find(({ replaces }) => !users.some(({ id }) => id === replaces));
}

/** A volume's inspect: with its driver's details and its exclusive owner. */
export function inspectedVolume(state: State, rules: VolumeRules, record: VolumeRecord): Volume {
  const owner = isExclusive(rules, record) ? ownerOf(state, record.name) : undefined;
  const status = owner === undefined ? record.status : { ...record.status, owner: owner.id };
  return { ...volumeOf(record), status };
}

/** The decision about a container's claim. */
export type Admission =
  | { readonly kind: "granted" }
  /** Set if it owns the volume only once this replaced container is gone. */
  | { readonly kind: "after"; readonly ownerId: string }
  | { readonly kind: "refused"; readonly error: SockerlessError };

/**
 * Decides whether a new container may use a volume.
 *
 * @param isTaken whether it is inherited from another container (`VolumesFrom`)
 */
export function admissionTo(
  state: State,
  rules: VolumeRules,
  volume: VolumeRecord,
  container: ContainerRecord,
  isTaken: boolean,
): Admission {
  if (!isExclusive(rules, volume)) {
    return { kind: "granted" };
  }
  const others = containersWith(state, volume.name).filter(({ id }) => id !== container.id);
  const [owner] = others;
  if (owner === undefined) {
    return { kind: "granted" };
  }
  const replacesAnother = container.replaces !== "" && container.replaces !== owner.id;
  if (others.length === 1 && !replacesAnother && !isTaken && isReplaced(owner, container)) {
    return { kind: "after", ownerId: owner.id };
  }
  const first = ownerOf(state, volume.name) ?? owner;
  const advice = isTaken ? `; to copy files from or to it use docker cp with ${first.name}` : "";
  return { kind: "refused", error: inUse(rules, volume, first, advice) };
}

/** Why a container cannot start yet, as the container that it replaces still owns its volume; undefined if it can. */
export function waitRefusal(
  state: State,
  rules: VolumeRules,
  container: ContainerRecord,
): SockerlessError | undefined {
  for (const { type, name } of container.mounts) {
    const volume = type === "volume" ? state.volumes.get(name) : undefined;
    const owner =
      volume !== undefined && isExclusive(rules, volume) ? ownerOf(state, volume.name) : undefined;
    if (volume !== undefined && owner !== undefined && owner.id !== container.id) {
      return inUse(rules, volume, owner, ", which this one replaces");
    }
  }
  return undefined;
}

/** Compose's label holds the replaced container's ID or name, or the service's name with a number. */
function isReplaced(owner: ContainerRecord, { config }: ContainerRecord): boolean {
  const named = config?.labels[replaceLabel] ?? "";
  const own = owner.config?.labels ?? {};
  const label = (labels: Readonly<Record<string, string>>, name: string): string =>
    labels[`com.docker.compose.${name}`] ?? "";
  const isOfProject =
    label(own, "project") !== "" && label(own, "project") === label(config?.labels ?? {}, "project");
  return (
    named !== "" &&
    (named === owner.id ||
      named === owner.name ||
      (isOfProject && named === `${label(own, "service")}-${label(own, "container-number")}`))
  );
}

function inUse(
  rules: VolumeRules,
  { name, driver }: VolumeRecord,
  owner: ContainerRecord,
  more: string,
): SockerlessError {
  const shared = rules.drivers.find(({ sharing }) => sharing === "shared")?.name;
  const advice =
    shared === undefined ? "" : `; volumes that containers share are made with --driver ${shared}`;
  return conflict(
    `volume ${name} is in use by container ${owner.name} (${shortId(owner.id)})${more}: ` +
      `one of the driver ${driver} belongs to one container alone until that is removed${advice}`,
  );
}
