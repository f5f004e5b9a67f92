/**
 * The call that waits for a start's answer. A client that merely leaves changes nothing, as in dockerd. One whose answer is lost
 * with a process in between is told of a failure, unless the frontend asks again: until it has, the agent is not told to run.
 */
import type { Clock } from "../../../../common/clock.ts";
import { conflict, type SockerlessError } from "../../../../common/errors.ts";
import { onAbort } from "../../../../common/on-abort.ts";
import { after } from "../../../../common/timers.ts";
import { isCallerLost } from "../../../concurrency/caller-lost.ts";

/** How long a call that was lost is awaited again: frontends repeat it for ten seconds while the backend is away. */
export const repeatedWithinMs = 11_000;

/** Settings of {@link StartCaller}. */
export interface StartCallerOptions {
  readonly containerId: string;
  readonly clock: Clock;
  /** The client's; empty: it does not ask again. */
  readonly token: string;
  /** Whether somebody else wants the start, too: it goes on without its caller. */
  readonly isWantedAnyway: boolean;
  /** Called once where the caller is lost for good. */
  readonly lost: (failure: SockerlessError) => void;
  /** Called once where the client has left: nobody is told of a failure. */
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

  /** Aborts, with the start's failure as its reason, once the caller is lost for good: nobody wants what its agent has not begun. */
  get unwanted(): AbortSignal {
    return this.#givingUp.signal;
  }

  /** Whether the call was lost, and has not come again. */
  get isLost(): boolean {
    return this.#patience !== undefined;
  }

  /** Resolves once somebody wants the start. @throws conflict: the caller was lost, and has not asked again in time */
  get wanted(): Promise<void> {
    return this.#wanted.promise;
  }

  /** Follows a call: the first one, or one that repeats it. */
  follow(call: AbortSignal): void {
    this[Symbol.dispose]();
    this.#wanted.resolve();
    this.#call = onAbort(call, () => (isCallerLost(call.reason) ? this.lose() : this.#leave()));
  }

  /** The call is lost: from now on it is awaited again, where the start needs it. */
  lose(): void {
    this[Symbol.dispose]();
    if (this.#options.isWantedAnyway) {
      return;
    }
    this.#wanted = Promise.withResolvers();
    this.#wanted.promise.catch(() => undefined); // Nobody may be waiting yet.
    this.#patience = after(this.#options.clock, repeatedWithinMs, () => this.giveUp());
  }

  /** A call that was lost is awaited no longer. */
  giveUp(): void {
    if (this.isLost) {
      this[Symbol.dispose]();
      const failure = lostCaller(this.#options.containerId);
      this.#wanted.reject(failure);
      this.#givingUp.abort(failure);
      this.#options.lost(failure);
    }
  }

  /** The start is over: nobody is heard any more. */
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
