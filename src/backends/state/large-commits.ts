/**
 * Paces those who have large records written: LevelDB writes each several times over, and all commits of that time wait
 * for it.
 */
import { type Clock, systemClock } from "../../common/clock.ts";

/** Bytes that large commits write per second together, about. */
const perSecond = 16 * 2 ** 20;
/** A commit of more bytes is large. */
const largeBytes = 16 * 2 ** 10;

/** Large commits whose callers still wait. */
export class LargeCommits {
  readonly #clock: Clock;
  #count = 0;
  #bytes = 0;

  /** @param clock for tests */
  constructor(clock = systemClock) {
    this.#clock = clock;
  }

  /**
   * Keeps a commit's caller from its next one for the time in which each that waits, this one too, may write as much as
   * it has: as many bytes, or all of its own if these are fewer.
   */
  async pace(bytes: number): Promise<void> {
    if (bytes <= largeBytes) {
      return;
    }
    this.#count++;
    this.#bytes += bytes;
    const turnBytes = Math.min(this.#count * bytes, this.#bytes);
    await this.#clock.sleep((turnBytes / perSecond) * 1_000);
    this.#count--;
    this.#bytes -= bytes;
  }
}
