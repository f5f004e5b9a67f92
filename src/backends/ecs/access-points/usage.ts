/** Counts the file system's access points, and warns before the limit is reached. */
import type { Logger } from "../../../common/logger.ts";

/** Fraction of the limit from which on it warns. */
const warnedPart = 0.8;

/** Counts access points, and warns when the limit is near. */
export class AccessPointUsage {
  readonly #limit: number;
  readonly #logger: Logger;
  #count: number | undefined;
  /** Percentage of the limit at the last warning; 0 if there was none. */
  #warnedPercent = 0;

  /** @param limit maximum access points of the file system */
  constructor(limit: number, logger: Logger) {
    this.#limit = limit;
    this.#logger = logger;
  }

  /** Whether there is a count that changes can be added to. */
  get isCounted(): boolean {
    return this.#count !== undefined;
  }

  /** Sets the count. */
  counted(count: number): void {
    this.#count = count;
    this.#warn();
  }

  /** Counts a created access point. */
  added(): void {
    this.#count = this.#count === undefined ? undefined : this.#count + 1;
    this.#warn();
  }

  /** Counts a removed access point. */
  removed(): void {
    this.#count = this.#count === undefined ? undefined : Math.max(0, this.#count - 1);
    if (this.#count !== undefined && this.#count < this.#limit * warnedPart) {
      this.#warnedPercent = 0;
    }
  }

  #warn(): void {
    const count = this.#count ?? 0;
    const percent = Math.floor((count / this.#limit) * 100);
    if (count >= this.#limit * warnedPart && percent > this.#warnedPercent) {
      this.#warnedPercent = percent;
      this.#logger.warn(
        { accessPoints: count, limit: this.#limit },
        `${percent} % of the file system's access points are in use: remove volumes that nobody needs`,
      );
    }
  }
}
