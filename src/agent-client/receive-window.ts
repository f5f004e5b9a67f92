/** Bytes that an agent may send on each stream of a session unread: the cost of a stalled reader. */
import type { ClientHttp2Session } from "node:http2";

import type { ByteBudget } from "../common/byte-budget.ts";

/** Window that every stream is sure of, in bytes. */
export const leastWindow = 64 * 1024;
/** Largest window, in bytes: beyond it no stream becomes faster. */
const mostWindow = 2 * 1024 * 1024;

/**
 * The window of one session's streams. It begins small, doubles while what comes is read and the budget has room, and
 * shrinks again where streams become many. HTTP/2 has one size for all streams of a session (SETTINGS_INITIAL_WINDOW_SIZE,
 * which changes those that are open as well), and Node no call for a single one's.
 */
export class ReceiveWindow {
  readonly #session: ClientHttp2Session;
  readonly #budget: ByteBudget;
  #size = leastWindow;
  /** Size that the agent was told last, in bytes. */
  #told = leastWindow;
  #telling: boolean = false;
  #streams = 0;
  /** Bytes read since the size was last looked at. */
  #read = 0;

  constructor(session: ClientHttp2Session, budget: ByteBudget) {
    this.#session = session;
    this.#budget = budget;
  }

  /** A stream was opened. */
  opened(): void {
    this.#streams++;
    this.#budget.take(this.#size);
    let size = this.#size;
    while (size > leastWindow && size > 2 * this.#budget.share(leastWindow, mostWindow)) {
      size /= 2;
      this.#resize(size);
    }
  }

  /** A stream was closed. */
  closed(): void {
    this.#streams--;
    this.#budget.give(this.#size);
    if (this.#streams === 0) {
      this.#resize(leastWindow);
    }
  }

  /** So many bytes were read of a stream. */
  read(bytes: number): void {
    this.#read += bytes;
    if (this.#read < 2 * this.#size) {
      return;
    }
    this.#read = 0;
    const size = 2 * this.#size;
    if (size <= this.#budget.share(0, mostWindow, this.#streams * this.#size)) {
      this.#resize(size);
    }
  }

  #resize(size: number): void {
    this.#budget.give(this.#streams * this.#size);
    this.#size = size;
    this.#budget.take(this.#streams * size);
    this.#tell();
  }

  /** Tells the agent one change at a time: a session bounds how many may be unanswered. */
  #tell(): void {
    if (this.#telling || this.#told === this.#size || this.#session.closed || this.#session.destroyed) {
      return;
    }
    this.#telling = true;
    this.#told = this.#size;
    this.#session.settings({ initialWindowSize: this.#told }, () => {
      this.#telling = false;
      this.#tell();
    });
  }
}
