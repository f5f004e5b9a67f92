/**
 * Takes the place of Node's listeners between a connection and its HTTP parser. The only module that knows Node's parser.
 *
 * Why not Node's own upgrade: it only handles requests with an `Upgrade` header, but Docker hijacks without one too,
 * and the client's stdin would then be parsed as its next request. And from Node 26 on it parses the body before the
 * event, which earlier versions leave raw.
 */
import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";

/** Callbacks of a connection. */
export interface ParserEvents {
  /** Bytes were read; nothing is parsed unless they are passed on. */
  readonly data: (chunk: Buffer) => void;
  /**
   * A request's header was parsed.
   *
   * @returns true to hijack: the server emits `upgrade` with everything after the header unparsed, in the event's
   *   `head` and on the socket
   */
  readonly header: (request: IncomingMessage) => boolean;
  /** The server has emitted the event of that request, or refused it. */
  readonly dispatched: () => void;
}

/** Members of Node's parser that are used; `onIncoming` is called when a request's header was read. */
interface NodeParser {
  onIncoming: (request: IncomingMessage, keepAlive: boolean) => number | undefined;
}

/** Tells the parser that the message ends here and that no HTTP follows. */
const stopParsing = 2;

/**
 * Calls `events` in place of Node's own listeners.
 *
 * @param socket of a server's `connection` or `secureConnection` event
 * @returns parses bytes; undefined if Node does not parse this connection
 */
export function interceptParser(socket: Socket, events: ParserEvents): ((chunk: Buffer) => void) | undefined {
  const { parser } = socket as Socket & { readonly parser?: NodeParser | null };
  const [parse] = socket.listeners("data") as ((chunk: Buffer) => void)[];
  if (parser === undefined || parser === null || parse === undefined) {
    return undefined;
  }
  const { onIncoming } = parser;
  parser.onIncoming = (request, keepAlive) => {
    const upgradable = request as IncomingMessage & { upgrade: boolean };
    const isHijacked = events.header(request);
    upgradable.upgrade ||= isHijacked;
    const verdict = onIncoming(request, keepAlive);
    events.dispatched();
    return upgradable.upgrade ? stopParsing : verdict;
  };
  socket.removeListener("data", parse);
  socket.on("data", events.data);
  return (chunk) => parse.call(socket, chunk);
}
