/** Something of sockerless in AWS that no backend's state knows. */

/** One thing that can be removed. */
export interface Orphan {
  /** What it is, as AWS calls it: `access point`. */
  readonly kind: string;
  /** AWS's ID of it. */
  readonly id: string;
  /** What it was made for: `volume cache`. */
  readonly purpose: string;
  /** The instance that made it. */
  readonly instance: string;
  /** Removes it; what is gone is no error. @returns why it cannot be now; undefined: it is gone */
  remove(): Promise<string | undefined>;
}

/** What the state of a backend knows. */
export interface Known {
  readonly hasVolume: (accessPointId: string) => boolean;
  readonly hasNetwork: (networkId: string) => boolean;
  readonly hasContainer: (containerId: string) => boolean;
  readonly hasImage: (imageId: string) => boolean;
}
