/**
 * What this frontend knows of execs whose end its backend does not know (yet, or any more): their stream was cut, or has
 * ended while the backend could not be told, or while the container was being removed. Clients ask for the exit code
 * right after the stream and take none for 0.
 */
import type { InspectExecResponse } from "../../gen/sockerless/backend/v1/exec_pb.ts";

/** Of an exec whose stream was cut, and of which nobody knows how it ends. */
export const unknownExitCode = 255;

/** The oldest are forgotten beyond it: clients ask at once. */
const maxRemembered = 10_000;

/** Execs that have ended, by their IDs. */
export class ToldEnds {
  readonly #ended = new Map<string, InspectExecResponse>();

  /** @param exec with its exit code */
  remember(exec: InspectExecResponse): void {
    this.#ended.delete(exec.id);
    this.#ended.set(exec.id, exec);
    const [oldest] = this.#ended.keys();
    if (this.#ended.size > maxRemembered && oldest !== undefined) {
      this.#ended.delete(oldest);
    }
  }

  /** What to answer while the backend knows no end of it, or does not know it any more. */
  find(execId: string): InspectExecResponse | undefined {
    return this.#ended.get(execId);
  }
}
