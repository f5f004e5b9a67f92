/**
 * Pending removals of groups: an ended task's network interface uses its groups for a while, and a container's task may
 * linger. Clients do not wait for that.
 */
import type { Clock } from "../../../common/clock.ts";
import { messageOf } from "../../../common/errors.ts";
import type { Logger } from "../../../common/logger.ts";
import { pauseAfter } from "../../../common/pauses.ts";

/** Settings and dependencies of {@link PendingRemovals}. */
export interface PendingRemovalsOptions {
  /** @returns whether the group is gone */
  readonly remove: (groupId: string) => Promise<boolean>;
  readonly clock: Clock;
  readonly logger: Logger;
}

const pauses = { firstMs: 2_000, longestMs: 30_000 };
/** Time after which the group is probably used by somebody else: longer than any likely linger. */
const foreignAfterMs = 30 * 60_000;

/** Retries removals. A later process finds those that are left by the groups' tags. */
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

  /** Cancels a removal, as the group is needed again. */
  cancel(groupId: string): void {
    if (this.#pending.has(groupId)) {
      this.#cancelled.add(groupId);
    }
  }

  /** Ends the retries. */
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
      if (!told && clock.nowMs() - begunMs > foreignAfterMs) {
        told = true;
        logger.warn({ group: groupId }, "the security group of a removed network is still in use");
      }
    }
  }
}
