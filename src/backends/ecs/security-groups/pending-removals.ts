/**
 * Groups that are to be removed and cannot be yet: an ended task's network interface holds its groups for a while, and a
 * container's task may linger. Clients do not wait for that.
 */
import type { Clock } from "../../../common/clock.ts";
import { messageOf } from "../../../common/errors.ts";
import type { Logger } from "../../../common/logger.ts";
import { pauseAfter } from "../../../common/pauses.ts";

/** Settings of {@link PendingRemovals}, and what it calls. */
export interface PendingRemovalsOptions {
  /** @returns whether the group is gone */
  readonly remove: (groupId: string) => Promise<boolean>;
  readonly clock: Clock;
  readonly logger: Logger;
}

const pauses = { firstMs: 2_000, longestMs: 30_000 };
/** The time after which somebody else seems to use the group: longer than any linger that is likely. */
const strangeAfterMs = 30 * 60_000;

/** Tries removals again and again. Those that a process does not get done the next one finds by the groups' tags. */
export class PendingRemovals {
  readonly #options: PendingRemovalsOptions;
  readonly #closing = new AbortController();
  readonly #pending = new Map<string, Promise<void>>();
  readonly #cancelled = new Set<string>();

  constructor(options: PendingRemovalsOptions) {
    this.#options = options;
  }

  /** Removes a group as soon as that is possible. */
  add(groupId: string): void {
    this.#cancelled.delete(groupId);
    if (this.#pending.has(groupId) || this.#closing.signal.aborted) {
      return;
    }
    const removing = this.#removeInTime(groupId).finally(() => this.#pending.delete(groupId));
    this.#pending.set(groupId, removing);
  }

  /** The group is needed after all. */
  cancel(groupId: string): void {
    if (this.#pending.has(groupId)) {
      this.#cancelled.add(groupId);
    }
  }

  /** Ends the attempts. */
  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.all(this.#pending.values());
  }

  async #removeInTime(groupId: string): Promise<void> {
    const { clock, logger, remove } = this.#options;
    const { signal } = this.#closing;
    const begunMs = clock.nowMs();
    let told = false;
    for (let attempt = 1; ; attempt++) {
      await clock.sleep(pauseAfter(attempt, pauses), signal).catch(() => undefined);
      if (signal.aborted || this.#cancelled.delete(groupId)) {
        return;
      }
      try {
        if (await remove(groupId)) {
          logger.debug({ group: groupId }, "a removed network's security group is gone");
          return;
        }
      } catch (error) {
        logger.info({ err: error, group: groupId }, `cannot remove a security group: ${messageOf(error)}`);
      }
      if (!told && clock.nowMs() - begunMs > strangeAfterMs) {
        told = true;
        logger.warn({ group: groupId }, "the security group of a removed network is still in use");
      }
    }
  }
}
