import type { ContainerRecord } from "../../../gen/sockerless/state/v1/state_pb.ts";

/** Tells clients outside the names of containers, which themselves ask their agents. Every method answers at once. */
export interface ServiceDiscovery {
  /** A container runs at an address: it has its names on its user-defined networks. */
  announce(record: ContainerRecord, address: string): void;
  /** It has them no more, on one network (by ID) or on all. */
  withdraw(containerId: string, networkId?: string): void;
  /** A network is gone, and every name on it. */
  forgetNetwork(networkId: string): void;
  /** These containers run, by ID: names of others that an earlier process left are cleared away. */
  reconcile(running: ReadonlySet<string>): void;
  /** Ends what is under way; the next process goes on. */
  close(): Promise<void>;
}

/** Tells nobody. */
export const noDiscovery: ServiceDiscovery = {
  announce() {},
  withdraw() {},
  forgetNetwork() {},
  reconcile() {},
  close: () => Promise.resolve(),
};
