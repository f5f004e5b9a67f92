/** The link to the agent of one run of a container. */
import {
  createAgentClient,
  type AgentClient,
  type AgentClientOptions,
} from "../../../../agent-client/client.ts";
import { LatestOnly } from "../../../concurrency/latest-only.ts";
import { Lock } from "../../../concurrency/serial.ts";
import type { AgentAddress } from "../../../../agent-client/address.ts";

/** One link: it is made when the agent is known, and closed once, with its run. */
export class AgentLink {
  readonly address: AgentAddress;
  /** Generation of the run. */
  readonly generation: bigint;
  readonly agent: AgentClient;
  /** Ends the watch of this run. */
  readonly ended = new AbortController();
  /** Calls that tell names: those that wait share the next. */
  readonly names = new LatestOnly();
  /** Calls that tell who shares the container's network. */
  readonly partners = new Lock();
  /** Calls that tell what the agent is to keep of the container. */
  readonly sealing = new Lock();
  /** Whether names that could not be told are being told again; that call may take longer. */
  namesAreLate: boolean = false;
  /** Whether the log has already told that the agent answers no names. */
  namesAreRefused: boolean = false;
  /** Whether the agent has told this process anything of the run. */
  wasHeard: boolean = false;
  /** Whether this process has paused or thawed the container: the watch may tell of a state before that. */
  pauseChanged: boolean = false;

  constructor(address: AgentAddress, generation: bigint, options: AgentClientOptions) {
    this.address = address;
    this.generation = generation;
    this.agent = createAgentClient(address, options);
  }

  /** Ends what goes on over the link. */
  close(): void {
    this.ended.abort();
    this.agent.close();
  }
}
