/** Credentials for repositories: the client's, else those that are known. */
import type { NamedReference } from "./reference.ts";
import { repositoryName } from "./reference.ts";
import { type Credentials, isAnonymous } from "./registry/credentials.ts";

/** Credentials that the driver itself has for a registry's host; undefined: none. */
export type DriverCredentials = (domain: string) => Promise<Credentials | undefined>;

/** Knows credentials, in memory only. */
export class KnownCredentials {
  readonly #ofDriver: DriverCredentials | undefined;
  /** Credentials of the last pull from each repository, as its client gave them. */
  readonly #pulledWith = new Map<string, Credentials>();

  constructor(ofDriver: DriverCredentials | undefined) {
    this.#ofDriver = ofDriver;
  }

  /** The client's credentials; else those of the last pull from the repository, or the driver's own. */
  async for(repository: NamedReference, given?: Credentials): Promise<Credentials | undefined> {
    return isAnonymous(given)
      ? (this.#pulledWith.get(repositoryName(repository)) ?? (await this.#ofDriver?.(repository.domain)))
      : given;
  }

  /** Remembers credentials with which a client has pulled. The driver's own expire, and are asked for anew. */
  remember(repository: NamedReference, given: Credentials): void {
    this.#pulledWith.set(repositoryName(repository), given);
  }
}
