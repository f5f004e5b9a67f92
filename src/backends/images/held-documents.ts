/**
 * Memory for manifests, configurations and names of archives that pulls, loads and saves keep while they run: a registry
 * or a client may make each of them last.
 */
import { ByteBudget } from "../../common/byte-budget.ts";
import { unavailable } from "../../common/errors.ts";
import { sizeOfJson } from "../../common/json-values.ts";

/** All requests together; each may hold an eighth of what is free. */
const allBytes = 640 * 1024 ** 2;
/** Any request may have this much. */
const leastBytes = 256 * 1024;

/** Bytes that a value, list or object of a parsed document takes besides its text. */
const valueBytes = 64;

/** Bytes that the objects made from a JSON document take besides its text. */
export function objectBytes(document: Uint8Array): number {
  return valueBytes * sizeOfJson(document).total;
}

const budget = new ByteBudget(allBytes);

/** The documents of one request, until it is disposed. */
export class HeldDocuments implements Disposable {
  #bytes = 0;

  /** Counts bytes of a document. @throws unavailable: there is too little left for them */
  take(bytes: number): void {
    this.#bytes += bytes;
    budget.take(bytes);
    if (this.#bytes > budget.share(leastBytes, allBytes)) {
      throw unavailable(
        "manifests, configurations and names of archives take too much memory: try again later",
      );
    }
  }

  [Symbol.dispose](): void {
    budget.give(this.#bytes);
    this.#bytes = 0;
  }
}
