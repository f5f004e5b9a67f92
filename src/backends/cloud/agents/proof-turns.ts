/** Turns of keys that prove themselves: each begins with a TLS handshake of this thread, as dear as a stranger makes it. */
import { Allowance } from "../../../common/allowance.ts";
import { unavailable } from "../../../common/errors.ts";
import { onAbort } from "../../../common/on-abort.ts";

/** Proofs that begin at once, and the milliseconds after which one more does. */
const [mostAtOnce, refillMs] = [16, 50];
/** Proofs under way: a flood may have all their handshakes end in one turn of the event loop. */
const mostUnderWay = 64;
/** Keys that wait for a turn. */
const mostWaiting = 256;

/** A key that waits for its turn. */
interface Waiting {
  readonly containerId: string;
  readonly answer: (isNext: boolean) => void;
}

/** The turns of all containers' keys. Of too many those give way that came first: in a flood these are the flood's own. */
export class ProofTurns {
  readonly #allowance = new Allowance(mostAtOnce, refillMs);
  /** By their controllers, with their containers. */
  readonly #underWay = new Map<AbortController, string>();
  /** The longest waiting first. */
  readonly #waiting = new Set<Waiting>();
  #timer: NodeJS.Timeout | undefined;

  /**
   * Waits for a turn. Next is the key that came last, of the container with the fewest proofs under way.
   *
   * @returns a controller that aborts once the proof gives way to others, to be given to {@link end}; undefined if it has
   *   given way before its turn
   * @throws the signal's reason
   */
  async begin(containerId: string, signal: AbortSignal): Promise<AbortController | undefined> {
    signal.throwIfAborted();
    if (!(await this.#turn(containerId, signal))) {
      return undefined;
    }
    const proof = new AbortController();
    this.#underWay.set(proof, containerId);
    if (this.#underWay.size > mostUnderWay) {
      this.#dropOldest();
    }
    return proof;
  }

  /** Ends a proof. */
  end(proof: AbortController): void {
    this.#underWay.delete(proof);
  }

  /** Drops the oldest proof of the container that has most. */
  #dropOldest(): void {
    const counts = this.#counts();
    const most = Math.max(...counts.values());
    const [oldest] = [...this.#underWay].find(([, containerId]) => counts.get(containerId) === most) ?? [];
    if (oldest !== undefined) {
      this.end(oldest);
      oldest.abort(unavailable("many others have called since"));
    }
  }

  async #turn(containerId: string, signal: AbortSignal): Promise<boolean> {
    const { promise, resolve, reject } = Promise.withResolvers<boolean>();
    const waiting = { containerId, answer: resolve };
    using _leaving = onAbort(signal, () => {
      this.#waiting.delete(waiting);
      reject(signal.reason);
    });
    this.#waiting.add(waiting);
    const [oldest] = this.#waiting;
    if (this.#waiting.size > mostWaiting && oldest !== undefined) {
      this.#answer(oldest, false);
    }
    this.#serve();
    return await promise;
  }

  #serve(): void {
    for (let next = this.#next(); next !== undefined; next = this.#next()) {
      const { waitMs } = this.#allowance;
      if (waitMs > 0) {
        this.#timer ??= setTimeout(() => {
          this.#timer = undefined;
          this.#serve();
        }, waitMs).unref();
        return;
      }
      this.#allowance.take();
      this.#answer(next, true);
    }
  }

  #next(): Waiting | undefined {
    const counts = this.#counts();
    const countOf = ({ containerId }: Waiting): number => counts.get(containerId) ?? 0;
    const fewest = Math.min(...[...this.#waiting].map(countOf));
    return [...this.#waiting].findLast((each) => countOf(each) === fewest);
  }

  /** The numbers of proofs under way, by container. */
  #counts(): ReadonlyMap<string, number> {
    const counts = new Map<string, number>();
    for (const containerId of this.#underWay.values()) {
      counts.set(containerId, (counts.get(containerId) ?? 0) + 1);
    }
    return counts;
  }

  #answer(waiting: Waiting, isNext: boolean): void {
    this.#waiting.delete(waiting);
    waiting.answer(isNext);
  }
}
