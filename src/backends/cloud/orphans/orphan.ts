/** Something of sockerless in the cloud that no backend's state knows. */

/** One thing that can be removed. */
export interface Orphan {
  /** The cloud's word for such a thing: `access point`. */
  readonly kind: string;
  /** The cloud's ID of it. */
  readonly id: string;
  /** Its purpose: `volume cache`. */
  readonly purpose: string;
  /** The instance that made it. */
  readonly instance: string;
  /** Removes it; what is gone is no error. @returns why it cannot be now; undefined: it is gone */
  remove(): Promise<string | undefined>;
}

/** The things that a backend's state knows. */
export interface Known {
  /** @param reference the driver's */
  readonly hasVolume: (reference: string) => boolean;
  readonly hasNetwork: (networkId: string) => boolean;
  readonly hasContainer: (containerId: string) => boolean;
  readonly hasImage: (imageId: string) => boolean;
}
