/** Volumes below the engine's registry. */
import type { VolumeRecord } from "../../gen/sockerless/state/v1/state_pb.ts";

/** A kind of volumes that can be named (`--driver`). */
export interface VolumeDriver {
  readonly name: string;
  /**
   * A volume is had by any number of containers, or by one alone: from its creation on until it is removed, whether it
   * runs or not.
   */
  readonly sharing: "shared" | "exclusive";
  /** Whether what is in a volume is kept by this backend: only then a prune removes it, and its size is told. */
  readonly content: "here" | "here-without-options";
}

/** Rules of volumes that Docker leaves open, or that differ in a cloud. */
export interface VolumeRules {
  /** The first is meant by "" and "local". */
  readonly drivers: readonly VolumeDriver[];
  /** Reasons why drivers of other backends are not here, and what to use, by name. */
  readonly elsewhere?: Readonly<Record<string, string>>;
  /** A volume is in use by `any` container that names it, or by `running` ones only: those that start or are restarted count. */
  readonly usedBy: "any" | "running";
  /** The effect of `force` on a volume that is in use. */
  readonly forceOnUsed: "refuse" | "remove";
  /** The refusal to remove a volume that is in use, where it is not Docker's. */
  readonly inUseMessage?: string;
}

/** Directories of volumes that are mounted apart from the whole. */
export type VolumeParts =
  /** Nothing is needed for that. */
  | { readonly kind: "ready" }
  | {
      readonly kind: "made";
      /** How long a container's start waits for them to become mountable. Absent: as long as it takes. */
      readonly limitMs?: number;
      /**
       * Makes a directory of a volume mountable apart from the whole; the mount tells whether it exists.
       *
       * @param subpath normalized, not empty
       * @returns the driver's reference. Kinds: invalid (no such directory can be mounted here)
       */
      create(record: VolumeRecord, subpath: string): Promise<string>;
    };

/** A volume that a driver has made. */
export interface MadeVolume {
  readonly reference: string;
  /** Its place on this machine as users are told it, if there is one. */
  readonly mountpoint: string;
  /** Further details for users (`Status`). */
  readonly status: Readonly<Record<string, string>>;
}

/** A volume in use whose disk has less room than it may yet take, or hardly any: what is written to it may get lost. */
export interface VolumeShortage {
  readonly name: string;
  /** Bytes that the disk has left. */
  readonly free: bigint;
  /** Bytes that the volume may yet take of it. */
  readonly growth: bigint;
}

/** Volumes below the engine's registry. */
export interface VolumeStore {
  readonly rules: VolumeRules;
  readonly parts: VolumeParts;
  /**
   * Makes the volume; where it is there, compares it with the options.
   *
   * @throws UnsettledError: the volume may be there; the same call finds or makes it
   * @throws invalid: options, before anything is made; conflict: it is there, and other than the options ask
   */
  create(record: VolumeRecord): Promise<MadeVolume>;
  /**
   * Removes a volume and its parts, those too whose creation a crash has cut off.
   *
   * @param force also while it is in use, where the rules say so: those that have it mounted lose what is in it
   */
  remove(record: VolumeRecord, force?: boolean): Promise<void>;
  /**
   * Volumes of this instance that exist, for a state that lost them. Those in creation are told whole by
   * {@link create}.
   */
  found(): Promise<readonly VolumeRecord[]>;
  /**
   * Tells of each shortage once when it begins, and of those there are already, until the signal aborts. Where volumes
   * take no room of a disk as they are written to, it resolves at once.
   *
   * @throws the signal's reason
   */
  watchRoom(tell: (shortage: VolumeShortage) => Promise<void>, signal: AbortSignal): Promise<void>;
}
