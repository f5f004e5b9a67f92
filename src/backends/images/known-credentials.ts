/** Credentials for repositories: a client's own, the driver's, and those for layers that a client's pull left at the registry. */
import { remember } from "../../common/forget-oldest.ts";
import type { NamedReference } from "./reference.ts";
import { repositoryName } from "./reference.ts";
import { type Credentials, isAnonymous } from "./registry/credentials.ts";

/** The driver's own credentials for a registry's host; undefined if it has none. */
export type DriverCredentials = (domain: string) => Promise<Credentials | undefined>;

/** Repositories whose credentials are kept, and their longest ones in characters; a token of a registry has thousands. */
const mostKept = 1_000;
const longestKept = 64 * 1024;

/** Finds credentials; keeps them in memory only. */
export class KnownCredentials {
  readonly #ofDriver: DriverCredentials | undefined;
  /** Credentials that a client provided for the last pull from each repository. */
  readonly #pulledWith = new Map<string, Credentials>();

  constructor(ofDriver: DriverCredentials | undefined) {
    this.#ofDriver = ofDriver;
  }

  /**
   * Credentials for a client's request: those that it brought, otherwise the driver's own. Never those of another request,
   * which may have come from another user.
   */
  async ofRequest(
    repository: NamedReference,
    given: Credentials | undefined,
  ): Promise<Credentials | undefined> {
    return isAnonymous(given) ? await this.#ofDriver?.(repository.domain) : given;
  }

  /** Credentials for layers of an image that is here: those of the last pull from the repository, or the driver's own. */
  async ofLayers(repository: NamedReference): Promise<Credentials | undefined> {
    return this.#pulledWith.get(repositoryName(repository)) ?? (await this.#ofDriver?.(repository.domain));
  }

  /** Remembers the credentials of a client's pull. The driver's own expire, and are requested each time. */
  remember(repository: NamedReference, given: Credentials): void {
    const name = repositoryName(repository);
    this.#pulledWith.delete(name);
    if (JSON.stringify(given).length > longestKept) {
      return;
    }
    remember(this.#pulledWith, name, given, mostKept);
  }
}
