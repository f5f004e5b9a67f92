/** Turns of keys that prove themselves: each begins with a TLS handshake of this thread, as dear as a stranger makes it. */
import { Allowance } from "../../../common/allowance.ts";
import { unavailable } from "../../../common/errors.ts";
import { remember } from "../../../common/forget-oldest.ts";
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

/**
 * The turns of all containers' keys. Of too many the oldest of the container with most gives way: in a flood it is the
 * flood's own.
 */
export class ProofTurns {
  readonly #allowance = new Allowance(mostAtOnce, refillMs);
  /** By their controllers, with their containers. */
  readonly #underWay = new Map<AbortController, string>();
  /** The longest waiting first. */
  readonly #waiting = new Set<Waiting>();
  /** The number of the last turn of each container that had one lately. */
  readonly #lastTurns = new Map<string, number>();
  #turns = 0;
  #timer: NodeJS.Timeout | undefined;

  /**
   * Waits for a turn. Next is the key that came last, of the container whose last turn was longest ago.
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

  /** Ends a proof. @param isFree another begins in its place: it has succeeded, or no handshake was begun */
  end(proof: AbortController, isFree = false): void {
    this.#underWay.delete(proof);
    if (isFree) {
      this.#allowance.giveBack();
      this.#serve();
    }
  }

  /** Drops a proof. Containers with one each keep theirs: they are as many genuine agents. */
  #dropOldest(): void {
    const { containerId: fullest, count } = fullestOf(this.#underWay.values());
    const [oldest] = [...this.#underWay].find(([, containerId]) => containerId === fullest) ?? [];
    if (oldest !== undefined && count > 1) {
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
    if (this.#waiting.size > mostWaiting) {
      const all = [...this.#waiting];
      const { containerId: fullest } = fullestOf(all.map((each) => each.containerId));
      this.#answer(all.find((each) => each.containerId === fullest) ?? waiting, false);
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
    const lastOf = ({ containerId }: Waiting): number => this.#lastTurns.get(containerId) ?? 0;
    const first = Math.min(...[...this.#waiting].map(lastOf));
    return [...this.#waiting].findLast((each) => lastOf(each) === first);
  }

  #answer(waiting: Waiting, isNext: boolean): void {
    this.#waiting.delete(waiting);
    if (isNext) {
      remember(this.#lastTurns, waiting.containerId, ++this.#turns, mostWaiting);
    }
    waiting.answer(isNext);
  }
}

/** The container that is named most often, and how often. */
function fullestOf(containerIds: Iterable<string>): { readonly containerId: string; readonly count: number } {
  const counts = new Map<string, number>();
  let fullest = { containerId: "", count: 0 };
  for (const containerId of containerIds) {
    const count = (counts.get(containerId) ?? 0) + 1;
    counts.set(containerId, count);
    fullest = count > fullest.count ? { containerId, count } : fullest;
  }
  return fullest;
}
