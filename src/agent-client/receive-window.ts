/** Limits the bytes that a peer may send ahead on each stream: the memory cost of a stalled reader. */
import type { Http2Session } from "node:http2";

import type { Allowance } from "../common/allowance.ts";
import type { ByteBudget } from "../common/byte-budget.ts";

/** Guaranteed window of every stream, in bytes. */
export const leastWindow = 64 * 1024;
/** Largest window, in bytes: a larger one does not speed up streams. */
const mostWindow = 2 * 1024 * 1024;

/**
 * The window of one session's streams. It starts small, grows once data is read and the budget has room, and shrinks
 * when there are many streams. HTTP/2 has one size for all streams of a session (SETTINGS_INITIAL_WINDOW_SIZE, which
 * also changes open ones), and Node has no call to change that of a single stream.
 */
export class ReceiveWindow {
  readonly #session: Http2Session;
  readonly #budget: ByteBudget;
  readonly #growths: Allowance | undefined;
  #size = leastWindow;
  /** The size last sent to the peer, in bytes. */
  #sent = leastWindow;
  #changing: boolean = false;
  #streams = 0;
  /** Bytes read since the size was last reconsidered. */
  #read = 0;

  /**
   * @param session has {@link leastWindow} as its initial window
   * @param growths for a peer that takes few changes; undefined: it takes any number
   */
  constructor(session: Http2Session, budget: ByteBudget, growths?: Allowance) {
    this.#session = session;
    this.#budget = budget;
    this.#growths = growths;
  }

  /** Counts an opened stream. */
  opened(): void {
    this.#streams++;
    this.#budget.take(this.#size - leastWindow);
    let size = this.#size;
    while (size > leastWindow && size > 2 * this.#budget.share(leastWindow, mostWindow)) {
      size /= 2;
      this.#resize(size);
    }
  }

  /** Counts a closed stream. */
  closed(): void {
    this.#streams--;
    this.#budget.give(this.#size - leastWindow);
    if (this.#streams === 0) {
      this.#resize(leastWindow);
    }
  }

  /** Counts bytes read from a stream. */
  read(bytes: number): void {
    this.#read += bytes;
    if (this.#read < 2 * this.#size) {
      return;
    }
    this.#read = 0;
    const { waitMs = 0 } = this.#growths ?? {};
    let size = waitMs === 0 ? mostWindow : this.#size;
    while (size > this.#size && size > this.#shareBeside(size)) {
      size /= 2;
    }
    if (size > this.#size) {
      this.#growths?.take();
      this.#resize(size);
    }
  }

  /** The share of a stream if all had that size. */
  #shareBeside(size: number): number {
    return this.#budget.share(0, mostWindow, this.#streams * (size - this.#size));
  }

  #resize(size: number): void {
    this.#budget.give(this.#streams * this.#size);
    this.#size = size;
    this.#budget.take(this.#streams * size);
    this.#sendSize();
  }

  /** Sends the peer one change at a time, as a session limits unacknowledged ones. */
  #sendSize(): void {
    if (this.#changing || this.#sent === this.#size || this.#session.closed || this.#session.destroyed) {
      return;
    }
    this.#changing = true;
    this.#sent = this.#size;
    this.#session.settings({ initialWindowSize: this.#sent }, () => {
      this.#changing = false;
      this.#sendSize();
    });
  }
}
