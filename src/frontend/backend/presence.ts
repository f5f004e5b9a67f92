/**
 * The backend's availability, known at any time without a call from an open watch of the health service: a ping
 * succeeds only while the backend serves.
 */
import { type Client, ConnectError } from "@connectrpc/connect";

import type { Clock } from "../../common/clock.ts";
import type { Logger } from "../../common/logger.ts";
import { after } from "../../common/timers.ts";
import type { Health } from "../../gen/grpc/health/v1/health_pb.ts";
import { refusalOf } from "./refusal.ts";
import type { BackendReach } from "../streams/agent-targets.ts";

/** Pause between attempts, in milliseconds; short, so that a restarted backend is noticed soon. */
const pauseMs = 200;
/** A restarting backend accepts connections before it answers; it does not count as unavailable meanwhile. */
const answerLimitMs = 10_000;

/** The health service to watch, and how to dial the backend. */
export interface BackendPresenceOptions {
  readonly health: Pick<Client<typeof Health>, "watch">;
  readonly reach: BackendReach;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Watches the backend's health until closed. */
export class BackendPresence {
  readonly #options: BackendPresenceOptions;
  readonly #closing = new AbortController();
  /** Resolves once the current attempt has a result; undefined from then on. */
  #attempted: PromiseWithResolvers<void> | undefined = Promise.withResolvers();
  #absence: string | undefined;
  #watching: Promise<void> | undefined;

  constructor(options: BackendPresenceOptions) {
    this.#options = options;
  }

  /**
   * Why the backend is unavailable, in words; undefined while it serves. Right after a connection was lost it waits for
   * the next attempt's result.
   */
  async absence(): Promise<string | undefined> {
    if (this.#attempted === undefined) {
      return this.#absence;
    }
    const late = Promise.withResolvers<string>();
    using _limit = after(this.#options.clock, answerLimitMs, () => late.resolve(this.#silence()));
    return await Promise.race([this.#attempted.promise.then(() => this.#absence), late.promise]);
  }

  /** Begins to watch. Logs each change, and each reason once. */
  watch(): void {
    this.#watching ??= this.#follow();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#isKnown();
    await this.#watching;
  }

  #isKnown(): void {
    this.#attempted?.resolve();
    this.#attempted = undefined;
  }

  async #follow(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      const { wasThere, reason } = await this.#watchOnce(signal);
      if (wasThere) {
        this.#attempted = Promise.withResolvers();
      } else {
        this.#isAbsent(reason);
      }
      await this.#options.clock.sleep(pauseMs, signal).catch(() => {});
    }
    this.#isKnown();
  }

  /** @returns whether the backend had answered, and why the watch ended */
  async #watchOnce(signal: AbortSignal): Promise<{ readonly wasThere: boolean; readonly reason: string }> {
    let wasThere = false;
    const silence = new AbortController();
    using limit = after(this.#options.clock, answerLimitMs, () => silence.abort());
    try {
      for await (const _ of this.#options.health.watch(
        {},
        { signal: AbortSignal.any([signal, silence.signal]) },
      )) {
        wasThere = true;
        limit[Symbol.dispose]();
        this.#isPresent();
      }
      return { wasThere, reason: "the backend ended the connection" };
    } catch (error) {
      if (silence.signal.aborted) {
        return { wasThere, reason: this.#silence() };
      }
      const refusal = signal.aborted || wasThere ? undefined : await refusalOf(this.#options.reach);
      return { wasThere, reason: refusal ?? ConnectError.from(error).rawMessage };
    }
  }

  #silence(): string {
    return `the backend at ${this.#options.reach.address} does not answer`;
  }

  #isPresent(): void {
    if (this.#absence !== undefined) {
      this.#options.logger.info({ address: this.#options.reach.address }, "the backend is there");
    }
    this.#absence = undefined;
    this.#isKnown();
  }

  #isAbsent(reason: string): void {
    if (this.#absence !== reason && !this.#closing.signal.aborted) {
      this.#options.logger.warn({ address: this.#options.reach.address, reason }, "the backend is not there");
    }
    this.#absence = reason;
    this.#isKnown();
  }
}
