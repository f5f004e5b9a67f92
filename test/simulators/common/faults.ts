/** Failures on command. */

/** A fault that calls are to meet. */
export interface Fault {
  /** `ecs.RunTask`, or `ecs` for every operation of a service, or nothing for all. */
  readonly on?: string;
  /** Whether the fault concerns this request. */
  readonly where?: (input: unknown) => boolean;
  /** Number of calls that it concerns; absent: 1; `Infinity`: all until it is removed. */
  readonly times?: number;
  /** Answer this error instead of doing what was asked. */
  readonly error?: { readonly code: string; readonly message?: string; readonly status?: number };
  /** Wait so many simulated milliseconds first. */
  readonly delayMs?: number;
  /** Wait for this first. */
  readonly hold?: Promise<void>;
  /** Close the connection without an answer, before doing what was asked or after. */
  readonly cut?: "before" | "after";
}

/** The faults that are in force. */
export class Faults {
  #active: { readonly fault: Fault; left: number }[] = [];

  /** Puts a fault in force; answers how to remove it. */
  add(fault: Fault): () => void {
    const entry = { fault, left: fault.times ?? 1 };
    this.#active.push(entry);
    return () => {
      this.#active = this.#active.filter((each) => each !== entry);
    };
  }

  /** Removes all faults. */
  clear(): void {
    this.#active = [];
  }

  /** The first fault that concerns a call, used up by one. */
  take(service: string, operation: string, input: unknown): Fault | undefined {
    const entry = this.#active.find(
      ({ fault: { on, where } }) =>
        (on === undefined || on === service || on === `${service}.${operation}`) && where?.(input) !== false,
    );
    if (entry === undefined) {
      return undefined;
    }
    entry.left -= 1;
    if (entry.left <= 0) {
      this.#active = this.#active.filter((each) => each !== entry);
    }
    return entry.fault;
  }
}
