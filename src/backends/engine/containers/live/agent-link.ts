/** The link to the agent of one run of a container. */
import type { CallOptions } from "@connectrpc/connect";

import {
  createAgentClient,
  type AgentClient,
  type AgentClientOptions,
} from "../../../../agent-client/client.ts";
import { systemError } from "../../../../common/errors.ts";
import { LatestOnly } from "../../../concurrency/latest-only.ts";
import { Lock } from "../../../concurrency/serial.ts";
import type { AgentAddress } from "../../../../agent-client/address.ts";
import { GivenCertificates } from "./given-certificates.ts";
import { WriteAllowance } from "./write-allowance.ts";

/** The longest key that is taken from an agent, in bytes: it is kept. */
const longestKey = 1_024;

/** An agent's answer about an exec. */
export type ExecAnswer = "runs" | "runs not" | "silent";

/** A link: created when the agent is known, and closed with its run. */
export class AgentLink {
  readonly address: AgentAddress;
  /** Generation of the run. */
  readonly generation: bigint;
  readonly agent: AgentClient;
  /** Ends the watch of this run. */
  readonly ended = new AbortController();
  /** Calls that send names: waiting ones share the next call. */
  readonly names = new LatestOnly();
  /** Calls that send the containers that share the network. */
  readonly partners = new Lock();
  /** Its certificates for the agents of containers that share the network. */
  readonly partnerCertificates = new GivenCertificates();
  /** Its certificates for the agents of containers on the same networks. */
  readonly peerCertificates = new GivenCertificates();
  /** Calls that send the container's record for the agent to store. */
  readonly sealing = new Lock();
  /** Queries about execs, by ID: waiting ones share the next. */
  readonly execQueries = new Map<string, LatestOnly<ExecAnswer>>();
  /** Allowance of what its agent reports. */
  readonly writes = new WriteAllowance();
  /** Whether names are being resent after a failure; that call may take longer. */
  namesAreLate: boolean = false;
  /** Whether it is already logged that the agent resolves no names. */
  namesAreRefused: boolean = false;
  /** Whether the agent has reported anything about the run to this process. */
  wasHeard: boolean = false;
  /** Pending until the agent of an earlier process' run has said which start it serves; undefined for a run of this process. */
  greeting: PromiseWithResolvers<void> | undefined;
  #partnerKey: Uint8Array | undefined;
  /** Whether this process has paused or unpaused the container: the watch may report an earlier state. */
  pauseChanged: boolean = false;

  constructor(address: AgentAddress, generation: bigint, options: AgentClientOptions) {
    this.address = address;
    this.generation = generation;
    this.agent = createAgentClient(address, options);
  }

  /**
   * The key by which its partners and peers know the agent, as first told: another one would need all certificates anew.
   *
   * @param limits of the call, if there is one
   * @throws system: the key is too long; as that call
   */
  async partnerKey(limits: CallOptions): Promise<Uint8Array> {
    if (this.#partnerKey === undefined) {
      const { partnerKey } = await this.agent.client.hello({}, limits);
      if (partnerKey.length > longestKey) {
        throw systemError("the container's agent has too long a key");
      }
      this.#partnerKey ??= Uint8Array.from(partnerKey); // Else it keeps the message that it came in.
    }
    return this.#partnerKey;
  }

  /** Ends everything in progress over the link. */
  close(): void {
    this.ended.abort();
    this.agent.close();
  }
}
