/**
 * Attachments to a container that does not run yet. Each is registered before the start and gets the agent's address as
 * soon as it is known; the main process waits, bounded, for its session.
 */
import { newId } from "../../../../common/ids.ts";
import { onAbort } from "../../../../common/on-abort.ts";
import type { AgentAddress } from "../../../../agent-client/address.ts";

/** One reservation. */
export interface Reservation {
  /** For `OpenAttach`. */
  readonly attachId: string;
  /** Resolves at the start with the address to attach to; rejects if the start fails or the container is removed. */
  readonly address: Promise<AgentAddress>;
}

interface Pending {
  readonly resolve: (address: AgentAddress) => void;
  readonly reject: (error: unknown) => void;
}

/** The reservations of one container. */
export class Reservations {
  readonly #pending = new Map<string, Pending>();
  /** Reservations that have the address of the run that is being started. */
  readonly #served = new Set<string>();
  #starting: AgentAddress | undefined;

  /** Reserves an attachment; it is cancelled when the signal aborts before the address is known. */
  reserve(signal: AbortSignal): Reservation {
    const attachId = newId();
    if (this.#starting !== undefined) {
      this.#served.add(attachId);
      return { attachId, address: Promise.resolve(this.#starting) };
    }
    const { promise, resolve, reject } = Promise.withResolvers<AgentAddress>();
    this.#pending.set(attachId, { resolve, reject });
    const leaving = onAbort(signal, () => {
      this.#pending.delete(attachId);
      reject(signal.reason);
    });
    return { attachId, address: promise.finally(() => leaving[Symbol.dispose]()) };
  }

  /** IDs of the sessions that a process waits for if it starts now. */
  ids(): string[] {
    return [...this.#served, ...this.#pending.keys()];
  }

  /** Whether any has the address of the run that is being started. */
  get areServed(): boolean {
    return this.#served.size > 0;
  }

  /** Gives all reservations the agent's address, including new ones until {@link end}. */
  serve(address: AgentAddress): void {
    this.#starting = address;
    for (const [attachId, pending] of this.#pending) {
      this.#served.add(attachId);
      pending.resolve(address);
    }
    this.#pending.clear();
  }

  /** Ends the start: later reservations are for the next one. */
  end(): void {
    this.#starting = undefined;
    this.#served.clear();
  }

  /** Rejects the remaining reservations: the start failed or the container is removed. */
  fail(error: unknown): void {
    this.end();
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const { reject } of pending) {
      reject(error);
    }
  }
}
