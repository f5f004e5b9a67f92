/** Logs calls that a cloud denies: some callers continue without them, and others retry silently. */
import type { Logger } from "../../../common/logger.ts";
import type { CloudError } from "../contract/cloud-error.ts";

/** Logs each denied operation once, and again after it was allowed. */
export class Denials {
  readonly #logger: Logger;
  readonly #told = new Set<string>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** @param operation the cloud's name for it */
  allowed(operation: string): void {
    this.#told.delete(operation);
  }

  /** Handles the failure of any call; only denials are logged. */
  failed(operation: string, error: CloudError): void {
    if (error.isDenied && !this.#told.has(operation)) {
      this.#told.add(operation);
      this.#logger.warn(`the backend is not allowed, or not yet, to do what it needs: ${error.message}`);
    }
  }
}
