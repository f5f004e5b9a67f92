/** Failures of work that the backend's shutdown has interrupted. */
import type { EngineContext } from "../context.ts";

/**
 * Rethrows a failure of journalled work during shutdown: interrupted calls have an unknown outcome, so the journal
 * stays as it is, and the next process finishes or undoes the work.
 *
 * @throws the failure, if the backend is shutting down
 */
export function throwIfShuttingDown({ shutdown }: EngineContext, error: unknown): void {
  if (shutdown.aborted) {
    throw error;
  }
}
