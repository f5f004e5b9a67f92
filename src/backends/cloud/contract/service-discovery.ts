import type { ContainerRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";

/** Publishes containers' names for external clients; containers themselves ask their agents. Methods do not block. */
export interface ServiceDiscovery {
  /** A container runs at an address: publishes its names on its user-defined networks. */
  announce(record: ContainerRecord, address: string): void;
  /** Removes its names on one network (by ID) or on all. */
  withdraw(containerId: string, networkId?: string): void;
  /** Removes a network and all names on it. */
  forgetNetwork(networkId: string): void;
  /** Removes names that an earlier process left, except those of these running containers (by ID). */
  reconcile(running: ReadonlySet<string>): void;
  /** Aborts pending work; the next process continues. */
  close(): Promise<void>;
}

/** Publishes nothing. */
export const noDiscovery: ServiceDiscovery = {
  announce() {},
  withdraw() {},
  forgetNetwork() {},
  reconcile() {},
  close: () => Promise.resolve(),
};
