/** A start that is under way: others wait for it, as Docker's calls wait for the lock that a start holds. */
import type { LiveContainer } from "../live.ts";

/** Does the work of a start, with the container's lock held: until it has ended, others know that it is under way. */
export async function asStartUnderWay(live: LiveContainer, work: () => Promise<void>): Promise<void> {
  const over = Promise.withResolvers<void>();
  live.start = { over: over.promise };
  try {
    await work();
  } finally {
    live.start = undefined;
    over.resolve();
  }
}

/** Waits until no start is under way: what the container's record says from then on is what came of it. */
export async function startSettled(live: LiveContainer): Promise<void> {
  while (live.start !== undefined) {
    await live.start.over;
  }
}
