/** Resources of sockerless in the cloud that no backend's state knows. */

/** A removable resource. */
export interface Orphan {
  /** The cloud's term for its kind: `access point`. */
  readonly kind: string;
  /** Its ID in the cloud. */
  readonly id: string;
  /** Its purpose: `volume cache`. */
  readonly purpose: string;
  /** The instance that created it. */
  readonly instance: string;
  /** Removes it; no error if it is gone. @returns why it cannot be removed now; undefined if it is gone */
  remove(): Promise<string | undefined>;
}

/** The resources that a backend's state knows. */
export interface Known {
  /** @param reference the driver's */
  readonly hasVolume: (reference: string) => boolean;
  readonly hasNetwork: (networkId: string) => boolean;
  readonly hasContainer: (containerId: string) => boolean;
  readonly hasImage: (imageId: string) => boolean;
}
