import type { Clock } from "../../../common/clock.ts";
import type { RegistryAuth } from "../../../gen/sockerless/backend/v1/image_pb.ts";

/** A token of a registry. */
export interface RegistryToken {
  readonly auth: RegistryAuth;
  /** Its end, Unix milliseconds. */
  readonly expiresMs: number;
}

/** A token that ends sooner is not used for an upload that may take as long. */
const spareMs = 30 * 60_000;

/** Tokens by registry: one is asked for once for all who need it at a time, and again when it ends. */
export class RegistryTokens {
  readonly #ask: (domain: string) => Promise<RegistryToken>;
  readonly #clock: Clock;
  readonly #tokens = new Map<string, Promise<RegistryToken>>();

  constructor(ask: (domain: string) => Promise<RegistryToken>, clock: Clock) {
    this.#ask = ask;
    this.#clock = clock;
  }

  /** The token of a registry, by its host. @throws Error: as asking for it does */
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

  /** The registry took the token no more. */
  forget(domain: string): void {
    this.#tokens.delete(domain);
  }

  #asked(domain: string): Promise<RegistryToken> {
    const asked = this.#ask(domain);
    this.#tokens.set(domain, asked);
    asked.catch(() => this.#tokens.delete(domain));
    return asked;
  }
}
