/** The last operation on each of some keys, with their bytes counted. */
import type { Operation } from "./database.ts";
import { isEventKey } from "./keys.ts";

/** Bytes of an operation's key and value. */
export function bytesOf(operation: Operation): number {
  return operation.key.length + (operation.type === "put" ? operation.value.length : 0);
}

/** Keys with their last operation each. */
export class LastOperations {
  readonly #byKey = new Map<string, Operation>();
  #bytes = 0;
  #eventBytes = 0;

  get byKey(): ReadonlyMap<string, Operation> {
    return this.#byKey;
  }

  /** Sum of the operations' {@link bytesOf}. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The part of {@link bytes} that operations on events are. */
  get eventBytes(): number {
    return this.#eventBytes;
  }

  add(operations: Iterable<Operation>): void {
    for (const operation of operations) {
      const before = this.#byKey.get(operation.key);
      const growth = bytesOf(operation) - (before === undefined ? 0 : bytesOf(before));
      this.#byKey.set(operation.key, operation);
      this.#bytes += growth;
      this.#eventBytes += isEventKey(operation.key) ? growth : 0;
    }
  }

  clear(): void {
    this.#byKey.clear();
    this.#bytes = 0;
    this.#eventBytes = 0;
  }
}
