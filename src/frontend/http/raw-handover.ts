/** Taking a connection away from Node's HTTP parser right after a request's header. */
import type { IncomingMessage } from "node:http";
import type { Socket } from "node:net";

/** Members of Node's parser that are used; `onIncoming` is called when a request's header was read. */
interface RequestParser {
  onIncoming: (request: IncomingMessage, keepAlive: boolean) => number | undefined;
}

/** Tells the parser that the message ends here and that no HTTP follows. */
const stopParsing = 2;

/**
 * Hands the requests that `mayHijack` names to the server's `upgrade` event with everything after the header unparsed,
 * in the event's `head` and on the socket.
 *
 * Why not Node's own upgrade: it only handles requests with an `Upgrade` header, but Docker hijacks without one too,
 * and the client's stdin would then be parsed as its next request. And from Node 26 on it parses the body before the
 * event, which earlier versions leave raw. This is the only place that knows Node's parser; `raw-handover.test.ts`
 * covers both cases.
 *
 * @param socket of a server's `connection` or `secureConnection` event
 */
export function handOverRaw(socket: Socket, mayHijack: (request: IncomingMessage) => boolean): void {
  const { parser } = socket as Socket & { readonly parser?: RequestParser | null };
  if (parser === undefined || parser === null) {
    return;
  }
  const { onIncoming } = parser;
  parser.onIncoming = (request, keepAlive) => {
    const upgradable = request as IncomingMessage & { upgrade: boolean };
    upgradable.upgrade ||= mayHijack(request);
    const verdict = onIncoming(request, keepAlive);
    return upgradable.upgrade ? stopParsing : verdict;
  };
}
