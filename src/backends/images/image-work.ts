/** Work on images in progress: a lease holds the content that it stores, and closing the backend ends it. */
import { unavailable } from "../../common/errors.ts";
import type { Logger } from "../../common/logger.ts";
import type { State } from "../state/state.ts";
import type { BlobLease, ContentStore } from "./content-store.ts";
import type { ImageIndex } from "./image-index.ts";

/** Dependencies of work on images. */
export interface WorkParts {
  readonly state: Pick<State, "losses">;
  readonly content: ContentStore;
  readonly index: ImageIndex;
  readonly logger: Logger;
}

/** Content held until disposed; then whatever no image needs is deleted, unless the state may have lost images. */
export interface HeldContent extends AsyncDisposable {
  readonly lease: BlobLease;
  /** Aborts with the caller's signal, and when the process ends. */
  readonly signal: AbortSignal;
}

/** Holds content for work, and tracks the work that closing waits for. */
export class ImageWork {
  readonly #parts: WorkParts;
  readonly #closing = new AbortController();
  readonly #underWay = new Set<Promise<void>>();

  constructor(parts: WorkParts) {
    this.#parts = parts;
  }

  /** Aborts when the process ends. */
  get closing(): AbortSignal {
    return this.#closing.signal;
  }

  /** Holds content for a reader, which the end of the process does not wait for. */
  hold(signal: AbortSignal): HeldContent {
    const { state, content, index, logger } = this.#parts;
    const isKept = (digest: string): boolean => state.losses.length > 0 || index.images.isReferenced(digest);
    const lease = content.lease();
    return {
      lease,
      signal: AbortSignal.any([signal, this.closing]),
      async [Symbol.asyncDispose]() {
        try {
          await lease.release(isKept);
        } catch (error) {
          logger.warn({ err: error }, "content that no image needs is left behind");
        }
      },
    };
  }

  /** Runs work under a lease that ends with it, well or not: see {@link HeldContent}. */
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

  /** Cancels current work and waits for its end. */
  async close(): Promise<void> {
    this.#closing.abort(unavailable("the backend is shutting down"));
    await Promise.allSettled(this.#underWay);
  }
}
