/** Calls that are repeated with the same token where an earlier one was lost. */
export class RepeatedCalls {
  readonly #calls = new Map<string, Set<AbortSignal>>();

  /** Whether a call with the token is under way. */
  has(token: string): boolean {
    return this.#calls.has(token);
  }

  /** The latest call with a token that has not ended; undefined if there is none, or no token. */
  latest(token: string): AbortSignal | undefined {
    return [...(this.#calls.get(token) ?? [])].findLast((call) => !call.aborted);
  }

  /** Adds a call, until the result is disposed; one without a token is not repeated. */
  add(token: string, call: AbortSignal): Disposable {
    const calls = this.#calls.get(token) ?? new Set();
    if (token !== "") {
      this.#calls.set(token, calls.add(call));
    }
    return {
      [Symbol.dispose]: () => {
        calls.delete(call);
        if (calls.size === 0) {
          this.#calls.delete(token);
        }
      },
    };
  }
}
