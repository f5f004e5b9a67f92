/** Calls that a cloud denies, told in the log at once: some of their callers go on without, and others try again quietly. */
import type { Logger } from "../../../common/logger.ts";
import type { CloudError } from "../contract/cloud-error.ts";

/** Tells each operation that is denied once, and again after it was allowed. */
export class Denials {
  readonly #logger: Logger;
  readonly #told = new Set<string>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** @param operation as the cloud names it */
  allowed(operation: string): void {
    this.#told.delete(operation);
  }

  /** Takes in any failure of a call; only denials are told. */
  failed(operation: string, error: CloudError): void {
    if (error.isDenied && !this.#told.has(operation)) {
      this.#told.add(operation);
      this.#logger.warn(`the backend is not allowed, or not yet, to do what it needs: ${error.message}`);
    }
  }
}
