/** Volumes below the engine's registry. */
import type { VolumeRecord } from "../../gen/sockerless/state/v1/state_pb.ts";

/** A volume driver for `--driver`. */
export interface VolumeDriver {
  readonly name: string;
  /**
   * Whether a volume can be used by any number of containers or only by one, from its creation until its removal,
   * running or not.
   */
  readonly sharing: "shared" | "exclusive";
  /** Whether this backend holds the volume's content: only then does a prune remove it, and is its size reported. */
  readonly content: "here" | "here-without-options";
}

/** Rules for volumes that Docker leaves open, or that differ in a cloud. */
export interface VolumeRules {
  /** The first is the driver for "" and "local". */
  readonly drivers: readonly VolumeDriver[];
  /** Errors for drivers of other backends, by name: why they are missing here, and what to use instead. */
  readonly elsewhere?: Readonly<Record<string, string>>;
  /**
   * Whether `any` container that names a volume uses it, or only `running` ones, including those starting or
   * restarting.
   */
  readonly usedBy: "any" | "running";
  /** The effect of `force` on a volume in use. */
  readonly forceOnUsed: "refuse" | "remove";
  /** The error for removing a volume in use, if it differs from Docker's. */
  readonly inUseMessage?: string;
}

/** How directories of volumes are mounted separately. */
export type VolumeParts =
  /** Without preparation. */
  | { readonly kind: "ready" }
  | {
      readonly kind: "made";
      /** Time that a container's start waits until they can be mounted, in milliseconds; absent for no limit. */
      readonly limitMs?: number;
      /**
       * Makes a directory of a volume mountable by itself; the mount later shows whether it exists.
       *
       * @param subpath normalized, not empty
       * @returns the driver's reference. Kinds: invalid (no such directory can be mounted here)
       */
      create(record: VolumeRecord, subpath: string): Promise<string>;
    };

/** A volume created by a driver. */
export interface MadeVolume {
  readonly reference: string;
  /** Its path on this machine for users, if any. */
  readonly mountpoint: string;
  /** Further details for users (`Status`). */
  readonly status: Readonly<Record<string, string>>;
}

/**
 * A volume in use whose disk is almost full, or has less space than the volume may still take: writes to it may be
 * lost.
 */
export interface VolumeShortage {
  readonly name: string;
  /** Free bytes of the disk. */
  readonly free: bigint;
  /** Bytes that the volume may still take of it. */
  readonly growth: bigint;
}

/** Volumes below the engine's registry. */
export interface VolumeStore {
  readonly rules: VolumeRules;
  readonly parts: VolumeParts;
  /**
   * Creates the volume; if it exists, checks that it matches the options.
   *
   * @throws UnsettledError if the volume may exist; the same call finds or creates it
   * @throws invalid for bad options, before anything is created; conflict if it exists with other options
   */
  create(record: VolumeRecord): Promise<MadeVolume>;
  /**
   * Removes a volume and its parts, including parts whose creation a crash interrupted.
   *
   * @param force also a volume in use, if the rules permit it: containers that mount it lose its content
   */
  remove(record: VolumeRecord, force?: boolean): Promise<void>;
  /**
   * Existing volumes of this instance, for a state that lost them. Those in phase `creating` are completed by {@link
   * create}.
   */
  found(): Promise<readonly VolumeRecord[]>;
  /**
   * Reports each shortage once, when it begins, and those that already exist, until the signal aborts. Resolves at once
   * if volumes take no disk space as they are written to.
   *
   * @throws the signal's reason
   */
  watchRoom(report: (shortage: VolumeShortage) => Promise<void>, signal: AbortSignal): Promise<void>;
}
