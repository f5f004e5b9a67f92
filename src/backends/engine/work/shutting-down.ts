/** Failures of work that was begun and that the end of the backend has cut. */
import type { EngineContext } from "../context.ts";

/**
 * Passes on a failure of journalled work once the backend ends: calls are cut then and nobody knows what they
 * have done, so the journal stays as it is, and the next process finishes the work or takes it back.
 *
 * @throws the failure, if the backend ends
 */
export function throwIfShuttingDown({ shutdown }: EngineContext, error: unknown): void {
  if (shutdown.aborted) {
    throw error;
  }
}
