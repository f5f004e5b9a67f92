/**
 * Containers' agents: who may talk to them, how they reach one another, what they store, and what their silence means.
 */
import type { ClientCredentials } from "../../agent-client/address.ts";
import type { ContainerRecord, ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";

/** A certificate for another process's key. */
export interface IssuedCertificate {
  /** DER, leaf first. */
  readonly chain: readonly Uint8Array[];
  /** From when it is renewed, and until when it is given, in milliseconds since the epoch. */
  readonly renewedFromMs: number;
  readonly goodUntilMs: number;
}

/** Issues certificates for clients of agents on TCP. Each is valid for one container and for minutes. */
export interface AgentAuthority {
  /** Key and certificate of this process for a container's agent; undefined if agents require none. */
  credentialsFor(containerId: string): Promise<ClientCredentials | undefined>;
  /**
   * A certificate for another process's key.
   *
   * @param publicKey SubjectPublicKeyInfo, DER
   * @returns DER, leaf first. Kinds: invalid (not such a key)
   */
  certify(containerId: string, publicKey: Uint8Array): Promise<readonly Uint8Array[]>;
  /**
   * A certificate for the agent of a container that shares this container's network. It only permits connections to
   * ports that this container's processes listen on, and is valid for an hour.
   * Each call issues a new one; calls are answered in order.
   *
   * @param publicKey as for {@link AgentAuthority.certify}
   */
  certifyPartner(containerId: string, publicKey: Uint8Array): Promise<IssuedCertificate>;
  /**
   * A certificate for the agent of another container on one of this container's networks. It permits connections to
   * what containers on a network can reach. Issued like {@link AgentAuthority.certifyPartner}'s.
   *
   * @param publicKey as for {@link AgentAuthority.certify}
   */
  certifyPeer(containerId: string, publicKey: Uint8Array): Promise<IssuedCertificate>;
}

/** A container's agent, identified by its key. */
export interface KeyedAgent {
  readonly containerId: string;
  /** SHA-256 of its certificate's SubjectPublicKeyInfo. */
  readonly pin: Uint8Array;
}

/** How the agent of one container reaches that of another. */
export type AgentReach =
  /** At the other agent's address. */
  | { readonly kind: "dialled" }
  /** Through a relay that both call. */
  | {
      readonly kind: "relayed";
      /**
       * Makes the relay join an agent with these others only, at once: its connections to any others are cut.
       *
       * @param pin undefined if the container no longer has an agent
       */
      allow(containerId: string, pin: Uint8Array | undefined, others: readonly KeyedAgent[]): void;
    };

/** Records of containers that their agents store, for a backend that loses its state. */
export interface Seals {
  /**
   * Encodes a container and its images as they are now. Its agent stores this (`AgentService.Reseal`) until a backend
   * reads it back as `FoundWorkload.record`. Undefined if agents store nothing.
   */
  seal(
    record: ContainerRecord,
    images: readonly ImageRecord[],
  ): Promise<{ readonly specification: Uint8Array; readonly seal: Uint8Array } | undefined>;

  /**
   * The number of the start that a running container's agent serves, if it is a later one than the state knows, as after the
   * restore of a backup; undefined if it is not. The driver counts that start as the container's from then on.
   */
  laterStart(containerId: string): Promise<bigint | undefined>;
}

/** How containers with unresponsive agents are treated. */
export type SilentAgents =
  /** An agent that does not answer has ended, together with its container's processes. */
  | { readonly kind: "gone" }
  | {
      readonly kind: "away";
      /**
       * Ends a run without its agent; resolves once `Workloads.list` reports how the run ended.
       *
       * @throws unavailable if the run has not ended when the signal aborts; it may still end later
       */
      end(containerId: string, signal: AbortSignal): Promise<void>;
    };
