/**
 * What this frontend knows of execs whose end its backend does not know (yet): their stream was cut, or has ended while
 * the backend could not be told. Clients ask for the exit code right after the stream and take none for 0.
 */

/** Of an exec whose stream was cut, and of which nobody knows how it ends. */
export const unknownExitCode = 255;

/** The oldest are forgotten beyond it: clients ask at once. */
const maxRemembered = 10_000;

/** Exit codes by exec ID. */
export class ToldEnds {
  readonly #codes = new Map<string, number>();

  remember(execId: string, exitCode: number): void {
    this.#codes.delete(execId);
    this.#codes.set(execId, exitCode);
    const [oldest] = this.#codes.keys();
    if (this.#codes.size > maxRemembered && oldest !== undefined) {
      this.#codes.delete(oldest);
    }
  }

  /** The code to answer while the backend knows none. */
  codeOf(execId: string): number | undefined {
    return this.#codes.get(execId);
  }
}
