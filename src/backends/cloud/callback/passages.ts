/** Connections between agents that call: who may have one with whom, and who has. */
import type { Caller, Grant } from "./relay-messages.ts";

/** Connections of one agent to another, at once; and of all others to one, which has 512 for them and its backend. */
const maxOfPair = 128;
const maxToOne = 384;

/** One connection that an agent has asked for. */
export interface Passage {
  readonly from: Caller;
  readonly to: Caller;
  /** Aborted once the two may not be joined any more. */
  readonly cut: AbortController;
}

/** Passages of one relay. */
export class Passages {
  readonly #grants = new Map<string, Grant>();
  readonly #open = new Set<Passage>();

  /** Has an agent reach these others and nobody else. Undefined: it is gone, and reaches nobody. */
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
   * Begins a connection, which the caller ends.
   *
   * @throws Error: that agent may not reach the container, or has connections enough
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

  /** Forgets one that has ended. */
  end(passage: Passage): void {
    this.#open.delete(passage);
  }

  #granted({ containerId: asking, pin }: Caller, containerId: string): Caller | undefined {
    const grant = this.#grants.get(asking);
    return grant?.pin === pin ? grant.others.find((other) => other.containerId === containerId) : undefined;
  }
}
