/** The count of the file system's access points: it warns before the limit is reached. */
import type { Logger } from "../../../common/logger.ts";

/** Part of the limit from which on it warns. */
const warnedPart = 0.8;

/** Counts access points and warns when there are nearly too many. */
export class AccessPointUsage {
  readonly #limit: number;
  readonly #logger: Logger;
  #count: number | undefined;
  /** Percent of the limit at the last warning; 0: none was given. */
  #warnedPercent = 0;

  /** @param limit access points that the file system may have */
  constructor(limit: number, logger: Logger) {
    this.#limit = limit;
    this.#logger = logger;
  }

  /** Whether they have been counted, so that changes can be added up. */
  get isCounted(): boolean {
    return this.#count !== undefined;
  }

  /** They were counted. */
  counted(count: number): void {
    this.#count = count;
    this.#warn();
  }

  /** One was made. */
  added(): void {
    this.#count = this.#count === undefined ? undefined : this.#count + 1;
    this.#warn();
  }

  /** One was removed. */
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
