/**
 * Lets a socket feed Node's HTTP parser again without JavaScript in between, as every connection does until somebody
 * listens to its bytes. Node documents no way back; `request-pacing.test.ts` shows that this one is.
 */
import type { Socket } from "node:net";

/** The part of Node's HTTP parser that is used here; neither it nor the socket's handle is public. */
interface FedParser {
  _consumed?: boolean;
  consume?: (handle: object) => void;
}

type Handle = object & {
  _consumed?: boolean;
  reading?: boolean;
  readonly isStreamBase?: boolean;
  readStart?: () => void;
};

/** The feed of one connection. Made before anybody listens to the socket's bytes. */
export class ParserFeed {
  readonly #socket: Socket;
  /** Node's own listeners on sockets that feed a parser, which hold the reading up and go on with it. */
  readonly #listeners: ReadonlyMap<"pause" | "resume", readonly (() => void)[]>;

  constructor(socket: Socket) {
    this.#socket = socket;
    this.#listeners = new Map([
      ["pause", socket.listeners("pause") as (() => void)[]],
      ["resume", socket.listeners("resume") as (() => void)[]],
    ]);
  }

  /** Whether the socket is open and of a kind that can feed a parser, and holds no bytes, of which nobody would hear. */
  get isPossible(): boolean {
    const { parser, _handle: handle } = this.#internals;
    const isAble = parser?.consume !== undefined && handle?.isStreamBase === true;
    return isAble && !this.#socket.destroyed && this.#socket.readableLength === 0;
  }

  /** Lets the parser read from here on. Nobody listens to the socket's bytes. */
  begin(): void {
    const { parser, _handle: handle } = this.#internals;
    if (parser?.consume === undefined || handle === undefined || handle === null) {
      return;
    }
    for (const [event, listeners] of this.#listeners) {
      for (const listener of listeners) {
        this.#socket.on(event, listener);
      }
    }
    parser._consumed = true;
    handle._consumed = true;
    parser.consume(handle);
  }

  /** To be followed by a listener to the socket's bytes, which Node takes as the word to end it. */
  end(): void {
    const { _handle: handle } = this.#internals;
    if (handle !== undefined && handle !== null) {
      handle._consumed = false;
      // A body that nobody had read yet has held the reading up, and Node's listeners go before they go on with it.
      if (handle.reading === false) {
        handle.reading = true;
        handle.readStart?.();
      }
    }
  }

  get #internals(): { readonly parser?: FedParser | null; readonly _handle?: Handle | null } {
    return this.#socket as unknown as { parser?: FedParser | null; _handle?: Handle | null };
  }
}
