/** Work on images that is under way: a lease holds the content that it takes in, and it ends with the backend. */
import { unavailable } from "../../common/errors.ts";
import type { Logger } from "../../common/logger.ts";
import type { BlobLease, ContentStore } from "./content-store.ts";
import type { ImageIndex } from "./image-index.ts";

/** Parts of the images that work goes on in. */
export interface WorkParts {
  readonly content: ContentStore;
  readonly index: ImageIndex;
  readonly logger: Logger;
}

/** Content that is held until disposed of; then what no image needs goes. */
export interface HeldContent extends AsyncDisposable {
  readonly lease: BlobLease;
  /** Aborts with the asking signal, and at the end of the process. */
  readonly signal: AbortSignal;
}

/** Holds content for work, and knows the work that a closing backend waits for. */
export class ImageWork {
  readonly #parts: WorkParts;
  readonly #closing = new AbortController();
  readonly #underWay = new Set<Promise<void>>();

  constructor(parts: WorkParts) {
    this.#parts = parts;
  }

  /** Aborts at the end of the process. */
  get closing(): AbortSignal {
    return this.#closing.signal;
  }

  /** Holds content for a reader, for which the end of the process does not wait. */
  hold(signal: AbortSignal): HeldContent {
    const { content, index, logger } = this.#parts;
    const lease = content.lease();
    return {
      lease,
      signal: AbortSignal.any([signal, this.closing]),
      async [Symbol.asyncDispose]() {
        const referenced = index.referencedBlobs();
        try {
          await lease.release((digest) => referenced.has(digest));
        } catch (error) {
          logger.warn({ err: error }, "content that no image needs is left behind");
        }
      },
    };
  }

  /** Does work under a lease: what it took in and no image needs in the end goes, however it ends. */
  async run<T>(signal: AbortSignal, work: (lease: BlobLease, signal: AbortSignal) => Promise<T>): Promise<T> {
    const ended = Promise.withResolvers<void>();
    this.#underWay.add(ended.promise);
    try {
      await using held = this.hold(signal);
      return await work(held.lease, held.signal);
    } finally {
      this.#underWay.delete(ended.promise);
      ended.resolve();
    }
  }

  /** Ends what is under way and waits for it. */
  async close(): Promise<void> {
    this.#closing.abort(unavailable("the backend is shutting down"));
    await Promise.allSettled(this.#underWay);
  }
}
