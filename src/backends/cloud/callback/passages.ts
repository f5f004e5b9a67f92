/** Connections between callback agents: which are allowed, and which exist. */
import type { Caller, Grant } from "./relay-messages.ts";

/**
 * Maximum connections from one agent to another, and from all others to one, which has 512 for them and its backend.
 */
const maxOfPair = 128;
const maxToOne = 384;

/** A connection requested by an agent. */
export interface Passage {
  readonly from: Caller;
  readonly to: Caller;
  /** Aborts once the two may no longer be joined. */
  readonly cut: AbortController;
}

/** Connections between agents of one relay. */
export class Passages {
  readonly #grants = new Map<string, Grant>();
  readonly #open = new Set<Passage>();

  /** Sets the agents that an agent may reach; undefined if it is gone. */
  allow(containerId: string, grant: Grant | undefined): void {
    if (grant === undefined) {
      this.#grants.delete(containerId);
    } else {
      this.#grants.set(containerId, grant);
    }
    for (const { from, to, cut } of this.#open) {
      if (from.containerId === containerId && this.#granted(from, to.containerId)?.pin !== to.pin) {
        cut.abort(new Error("it may not reach that container any more"));
      }
    }
  }

  /**
   * Opens a connection, which the caller closes.
   *
   * @throws Error: the agent may not reach the container, or has too many connections
   */
  open(from: Caller, containerId: string): Passage {
    const to = this.#granted(from, containerId);
    if (to === undefined) {
      throw new Error(`it may not reach container ${containerId}`);
    }
    const others = [...this.#open].filter((passage) => passage.to.containerId === containerId);
    const ofPair = others.filter((passage) => passage.from.containerId === from.containerId);
    if (ofPair.length >= maxOfPair || others.length >= maxToOne) {
      throw new Error(`container ${containerId} has connections enough`);
    }
    const passage = { from, to, cut: new AbortController() };
    this.#open.add(passage);
    return passage;
  }

  /** Removes a closed connection. */
  end(passage: Passage): void {
    this.#open.delete(passage);
  }

  #granted({ containerId: asking, pin }: Caller, containerId: string): Caller | undefined {
    const grant = this.#grants.get(asking);
    return grant?.pin === pin ? grant.others.find((other) => other.containerId === containerId) : undefined;
  }
}
