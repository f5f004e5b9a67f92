/** What is known of containers only while this process runs: locks, waiters, links to agents. */
import {
  createAgentClient,
  type AgentClient,
  type AgentClientOptions,
} from "../../../agent-client/client.ts";
import type { SockerlessError } from "../../../common/errors.ts";
import type { AgentAddress } from "../driver.ts";
import { Reservations } from "./reservations.ts";
import { Lock } from "./serial.ts";
import { Waiters } from "./waiters.ts";

/** The link to the agent of one run of a container. */
export interface AgentLink {
  readonly address: AgentAddress;
  /** Which run: the container's start counter. */
  readonly generation: bigint;
  readonly agent: AgentClient;
  /** Ends the watch of this run. */
  readonly ended: AbortController;
}

/** A start that is under way. */
export interface StartUnderWay {
  /** Resolves when it is over, well or not. */
  readonly over: Promise<void>;
  /** Ends it, with what it is to answer. */
  readonly ending: AbortController;
  /** Why it waits for room on the platform, in the platform's words; empty: it does not. */
  waitsFor: string;
}

/** One container's. */
export class LiveContainer {
  readonly id: string;
  /** Held while the container changes its state: starts, exits, is signalled, goes. Never while waiting for an exit. */
  readonly lock = new Lock();
  readonly waiters = new Waiters();
  readonly reservations = new Reservations();
  /** The start that is under way; it holds the lock. */
  start: StartUnderWay | undefined;
  /** What the last start answered that a user has ended; those that had waited for it answer the same. */
  startEnded: SockerlessError | undefined;
  /** While it starts or runs. */
  link: AgentLink | undefined;
  /** What the last run left is being taken away; resolves when that is over, well or not. */
  released: Promise<void> = Promise.resolve();
  /** Tells of names to the agent: the one under way, and the one that all who came since then wait for. */
  readonly names: {
    running: Promise<void> | undefined;
    waiting: Promise<void> | undefined;
    /** One that failed is made good: it may take longer. */
    isLate: boolean;
    /** The agent that answers none, which the log has: one run has one. */
    refusedBy: AgentLink | undefined;
  } = { running: undefined, waiting: undefined, isLate: false, refusedBy: undefined };
  /** Held while the agent is told who shares the container's network. */
  readonly partners = new Lock();
  /** Held while the agent is told what it is to keep of the container. */
  readonly sealing = new Lock();
  /** A removal is under way. */
  removing: boolean = false;
  /** A user restarts it, until the start that follows is under way: its exit is no reason to remove it. */
  restarting: boolean = false;
  /** This process has paused or thawed the container: what its watch tells of that may be older. */
  pauseChanged: boolean = false;
  /** A user has ended this run: no policy starts the container again. */
  endedByUser: boolean = false;
  /** How long the last restart by policy waited. */
  restartDelayMs: number = 0;
  /** Ends the wait of a restart by policy. */
  pendingRestart: AbortController | undefined;

  constructor(id: string) {
    this.id = id;
  }

  /** Links the container to the agent of a run; the link before is ended. */
  connect(address: AgentAddress, generation: bigint, options: AgentClientOptions): AgentLink {
    this.disconnect();
    this.link = {
      address,
      generation,
      agent: createAgentClient(address, options),
      ended: new AbortController(),
    };
    return this.link;
  }

  /** Ends the link, if there is one. */
  disconnect(): void {
    const { link } = this;
    this.link = undefined;
    link?.ended.abort();
    link?.agent.close();
  }
}

/** Every container's. */
export class LiveContainers {
  readonly #containers = new Map<string, LiveContainer>();

  /** The container's, made when it is first asked for. */
  of(id: string): LiveContainer {
    const known = this.#containers.get(id);
    if (known !== undefined) {
      return known;
    }
    const live = new LiveContainer(id);
    this.#containers.set(id, live);
    return live;
  }

  /** The container's, if something has been asked of it. */
  peek(id: string): LiveContainer | undefined {
    return this.#containers.get(id);
  }

  /** The container is gone. */
  forget(id: string): void {
    this.#containers.get(id)?.disconnect();
    this.#containers.delete(id);
  }

  /** Ends every link; containers go on. */
  disconnect(): void {
    for (const live of this.#containers.values()) {
      live.pendingRestart?.abort();
      live.disconnect();
    }
  }
}
