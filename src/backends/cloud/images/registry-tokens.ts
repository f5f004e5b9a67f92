import type { Clock } from "../../../common/clock.ts";
import { remember } from "../../../common/forget-oldest.ts";
import type { RegistryAuth } from "../../../gen/sockerless/backend/v1/image_pb.ts";

/** A token of a registry. */
export interface RegistryToken {
  readonly auth: RegistryAuth;
  /** Its expiry, Unix milliseconds. */
  readonly expiresMs: number;
}

/** Minimum remaining validity, as an upload may take this long. */
const spareMs = 30 * 60_000;
/** Names of images may have any number of hosts that a cloud gives tokens for. */
const mostTokens = 64;

/** Cache of the last tokens by registry: concurrent callers share a request, and expired ones are renewed. */
export class RegistryTokens {
  readonly #ask: (domain: string) => Promise<RegistryToken>;
  readonly #clock: Clock;
  readonly #tokens = new Map<string, Promise<RegistryToken>>();

  constructor(ask: (domain: string) => Promise<RegistryToken>, clock: Clock) {
    this.#ask = ask;
    this.#clock = clock;
  }

  /** The token for a registry's host. @throws the request's error */
  async get(domain: string): Promise<RegistryAuth> {
    const known = this.#tokens.get(domain);
    if (known !== undefined) {
      const { auth, expiresMs } = await known;
      if (this.#clock.nowMs() < expiresMs - spareMs) {
        return auth;
      }
      if (this.#tokens.get(domain) === known) {
        this.#tokens.delete(domain);
      }
    }
    const asked = this.#tokens.get(domain) ?? this.#asked(domain);
    return (await asked).auth;
  }

  /** Drops a token that the registry refuses. */
  forget(domain: string): void {
    this.#tokens.delete(domain);
  }

  #asked(domain: string): Promise<RegistryToken> {
    const asked = this.#ask(domain);
    remember(this.#tokens, domain, asked, mostTokens);
    asked.catch(() => {
      if (this.#tokens.get(domain) === asked) {
        this.#tokens.delete(domain);
      }
    });
    return asked;
  }
}
