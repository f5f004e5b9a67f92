/** Containers' agents: who may talk to them, how they reach one another, what they keep, and what their silence means. */
import type { ClientCredentials } from "../../agent-client/address.ts";
import type { ContainerRecord, ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";

/** Vouches for those who may talk to agents on TCP. A certificate is good for one container and for minutes. */
export interface AgentAuthority {
  /** Key and certificate of this process for a container's agent; undefined: agents ask for none. */
  credentialsFor(containerId: string): Promise<ClientCredentials | undefined>;
  /**
   * A certificate for somebody else's key.
   *
   * @param publicKey SubjectPublicKeyInfo, DER
   * @returns DER, leaf first. Kinds: invalid (not such a key)
   */
  certify(containerId: string, publicKey: Uint8Array): Promise<readonly Uint8Array[]>;
  /**
   * A certificate for the agent of a container that shares the network of this one: it opens where this one's processes
   * listen and nothing else, and is good for an hour.
   *
   * @param publicKey as for {@link AgentAuthority.certify}
   */
  certifyPartner(containerId: string, publicKey: Uint8Array): Promise<readonly Uint8Array[]>;
  /**
   * The same for the agent of a container that is on a network with this one: it opens what others on a network reach.
   *
   * @param publicKey as for {@link AgentAuthority.certify}
   */
  certifyPeer(containerId: string, publicKey: Uint8Array): Promise<readonly Uint8Array[]>;
}

/** A container's agent, by its key. */
export interface KeyedAgent {
  readonly containerId: string;
  /** SHA-256 of its certificate's SubjectPublicKeyInfo. */
  readonly pin: Uint8Array;
}

/** How the agent of one container reaches another's. */
export type AgentReach =
  /** At the other's address. */
  | { readonly kind: "dialled" }
  /** By a relay that both call. */
  | {
      readonly kind: "relayed";
      /**
       * Has the relay join an agent with these others and nobody else, at once: what it had with others is cut.
       *
       * @param pin undefined: the container has no agent any more
       */
      allow(containerId: string, pin: Uint8Array | undefined, others: readonly KeyedAgent[]): void;
    };

/** Records that agents keep of their containers, for a backend that loses its state. */
export interface Seals {
  /**
   * Encodes a container and its images as they are now, for its agent to keep (`AgentService.Reseal`) until a
   * backend wants them back as `FoundWorkload.record`; undefined: agents keep nothing.
   */
  seal(
    record: ContainerRecord,
    images: readonly ImageRecord[],
  ): Promise<{ readonly specification: Uint8Array; readonly seal: Uint8Array } | undefined>;
}

/** The fate of containers whose agents do not answer. */
export type SilentAgents =
  /** An agent that does not answer is gone, and what it ran with it. */
  | { readonly kind: "gone" }
  | {
      readonly kind: "away";
      /**
       * Ends a run past its agent; resolves once `Workloads.list` tells how it has ended.
       *
       * @throws unavailable: it has not ended when the signal aborts, and may do so later
       */
      end(containerId: string, signal: AbortSignal): Promise<void>;
    };
