/** Limits concurrency for each of several keys; others wait for their turn. */
import { onAbort } from "../../common/on-abort.ts";

/** Turns of one key. */
interface Turns {
  taken: number;
  readonly waiting: Set<() => void>;
}

/** A semaphore for each key, so that slow work for one key holds up none for another. */
export class Limiter {
  readonly #permits: number;
  readonly #keys = new Map<string, Turns>();

  /** @param permits turns of each key at a time */
  constructor(permits: number) {
    this.#permits = permits;
  }

  /** Whether a turn of the key is taken. */
  isTaken(key: string): boolean {
    return this.#keys.has(key);
  }

  /**
   * Waits for a turn, in order of arrival; disposing ends it.
   *
   * @param signal ends the wait
   * @param waits called if all turns of the key are taken
   * @throws the signal's reason
   */
  async acquire(key: string, signal?: AbortSignal, waits: () => void = () => {}): Promise<Disposable> {
    signal?.throwIfAborted();
    const turns = this.#keys.get(key) ?? { taken: 0, waiting: new Set() };
    this.#keys.set(key, turns);
    if (turns.taken < this.#permits) {
      turns.taken++;
    } else {
      waits();
      await nextTurn(turns, signal);
    }
    return { [Symbol.dispose]: () => this.#release(key, turns) };
  }

  #release(key: string, turns: Turns): void {
    const [next] = turns.waiting;
    if (next !== undefined) {
      turns.waiting.delete(next);
      next();
      return;
    }
    turns.taken--;
    if (turns.taken === 0) {
      this.#keys.delete(key);
    }
  }
}

async function nextTurn({ waiting }: Turns, signal: AbortSignal | undefined): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  waiting.add(resolve);
  using _leaving = onAbort(signal, () => {
    waiting.delete(resolve);
    reject(signal?.reason);
  });
  await promise;
}
