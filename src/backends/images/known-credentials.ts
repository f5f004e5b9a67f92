/** Credentials for repositories: the client's, otherwise remembered or the driver's own. */
import type { NamedReference } from "./reference.ts";
import { repositoryName } from "./reference.ts";
import { type Credentials, isAnonymous } from "./registry/credentials.ts";

/** The driver's own credentials for a registry's host; undefined if it has none. */
export type DriverCredentials = (domain: string) => Promise<Credentials | undefined>;

/** Finds credentials; keeps them in memory only. */
export class KnownCredentials {
  readonly #ofDriver: DriverCredentials | undefined;
  /** Credentials that a client provided for the last pull from each repository. */
  readonly #pulledWith = new Map<string, Credentials>();

  constructor(ofDriver: DriverCredentials | undefined) {
    this.#ofDriver = ofDriver;
  }

  /** The client's credentials; otherwise those of the last pull from the repository, or the driver's own. */
  async for(repository: NamedReference, given?: Credentials): Promise<Credentials | undefined> {
    return isAnonymous(given)
      ? (this.#pulledWith.get(repositoryName(repository)) ?? (await this.#ofDriver?.(repository.domain)))
      : given;
  }

  /** Remembers the credentials of a client's pull. The driver's own expire, and are requested each time. */
  remember(repository: NamedReference, given: Credentials): void {
    this.#pulledWith.set(repositoryName(repository), given);
  }
}
