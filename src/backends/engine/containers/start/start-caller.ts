/**
 * The call that waits for a start's result. A client that merely leaves changes nothing, as in dockerd. If the answer
 * is lost because a process died, the client gets an error, unless the frontend retries the call: until it has, the
 * agent is not told to run.
 */
import type { Clock } from "../../../../common/clock.ts";
import { conflict, type SockerlessError } from "../../../../common/errors.ts";
import { onAbort } from "../../../../common/on-abort.ts";
import { after } from "../../../../common/timers.ts";
import { isCallerLost } from "../../../concurrency/caller-lost.ts";

/** How long to wait for a retry of a lost call: frontends retry for ten seconds while the backend is unavailable. */
export const repeatedWithinMs = 11_000;

/** Settings of {@link StartCaller}. */
export interface StartCallerOptions {
  readonly containerId: string;
  readonly clock: Clock;
  /** The client's token; empty if it does not retry. */
  readonly token: string;
  /** Whether the start is also wanted for another reason, and so continues without its caller. */
  readonly isWantedAnyway: boolean;
  /** Called once if the caller is lost for good. */
  readonly lost: (failure: SockerlessError) => void;
  /** Called once if the client has left, which is no failure. */
  readonly left: () => void;
}

/** The caller of one start. */
export class StartCaller implements Disposable {
  readonly token: string;
  readonly #options: StartCallerOptions;
  readonly #leaving = new AbortController();
  readonly #givingUp = new AbortController();
  #call: Disposable | undefined;
  #patience: Disposable | undefined;
  #wanted = Promise.withResolvers<void>();

  constructor(options: StartCallerOptions) {
    this.token = options.token;
    this.#options = options;
    this.#wanted.promise.catch(() => undefined);
    this.#wanted.resolve();
  }

  /** Aborts when the client has left. */
  get left(): AbortSignal {
    return this.#leaving.signal;
  }

  /** Aborts with the start's failure once the caller is lost for good: then the start must not begin the process. */
  get unwanted(): AbortSignal {
    return this.#givingUp.signal;
  }

  /** Whether the call was lost and has not been retried. */
  get isLost(): boolean {
    return this.#patience !== undefined;
  }

  /** Resolves while the start is wanted. @throws conflict: the caller was lost and has not retried in time */
  get wanted(): Promise<void> {
    return this.#wanted.promise;
  }

  /** Follows a call: the first one, or a retry of it. */
  follow(call: AbortSignal): void {
    this[Symbol.dispose]();
    this.#wanted.resolve();
    this.#call = onAbort(call, () => (isCallerLost(call.reason) ? this.lose() : this.#leave()));
  }

  /** Records that the call is lost: from now on a retry is awaited, if the start needs it. */
  lose(): void {
    this[Symbol.dispose]();
    if (this.#options.isWantedAnyway) {
      return;
    }
    this.#wanted = Promise.withResolvers();
    this.#wanted.promise.catch(() => undefined); // Nobody may be waiting yet.
    this.#patience = after(this.#options.clock, repeatedWithinMs, () => this.giveUp());
  }

  /** Stops waiting for a retry of a lost call. */
  giveUp(): void {
    if (this.isLost) {
      this[Symbol.dispose]();
      const failure = lostCaller(this.#options.containerId);
      this.#wanted.reject(failure);
      this.#givingUp.abort(failure);
      this.#options.lost(failure);
    }
  }

  /** Ends with the start: callers are no longer followed. */
  [Symbol.dispose](): void {
    this.#call?.[Symbol.dispose]();
    this.#patience?.[Symbol.dispose]();
    this.#patience = undefined;
  }

  #leave(): void {
    this.#leaving.abort();
    this.#options.left();
  }
}

function lostCaller(containerId: string): SockerlessError {
  return conflict(
    `the start of container ${containerId} was undone before anything ran: ` +
      "its client was told of a failure, as a process that was to answer had ended, and has not asked again",
  );
}
