/**
 * Paces those who have large records written: LevelDB writes each several times over, and all commits of that time wait
 * for it.
 */
import { setTimeout } from "node:timers/promises";

/** Bytes that large commits write per second together, about. */
const perSecond = 16 * 2 ** 20;
/** A commit of more bytes is large. */
const largeBytes = 16 * 2 ** 10;

/** Large commits whose callers still wait. */
export class LargeCommits {
  #count = 0;
  #bytes = 0;

  /**
   * Keeps a caller from its next commit: for as long as all commits under way take, but those of few bytes in proportion
   * to them.
   */
  async pace(bytes: number): Promise<void> {
    if (bytes <= largeBytes) {
      return;
    }
    this.#count++;
    this.#bytes += bytes;
    const turnBytes = Math.min(this.#count * bytes, this.#bytes);
    await setTimeout((turnBytes / perSecond) * 1_000);
    this.#count--;
    this.#bytes -= bytes;
  }
}
