/** What was begun and has failed because the backend ends. */
import type { EngineContext } from "./context.ts";

/**
 * For a failure of what was journalled before it was begun. Once the backend ends, calls are cut and nobody knows what
 * they have done: the journal stays as it is, and the next process finishes what it says or takes it back.
 *
 * @throws the failure, if the backend ends
 */
export function throwIfShuttingDown({ shutdown }: EngineContext, error: unknown): void {
  if (shutdown.aborted) {
    throw error;
  }
}
