/** An HTTP response on a connection that Node no longer speaks HTTP on. */
import { STATUS_CODES } from "node:http";
import type { Socket } from "node:net";

import { errorBody, type ErrorReply } from "./http-status.ts";

/** Writes an error to a client that asked for an upgrade, and closes the connection. */
export function writeRawError(
  socket: Socket,
  reply: ErrorReply,
  headers: Readonly<Record<string, string>>,
): void {
  const body = errorBody(reply);
  const lines = [
    `HTTP/1.1 ${reply.status} ${STATUS_CODES[reply.status]}`,
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
    "Content-Type: application/json",
    `Content-Length: ${Buffer.byteLength(body)}`,
    "Connection: close",
  ];
  // What the client still sends is read and dropped: unread bytes would turn the close into a reset, and the client
  // would never see the answer.
  socket.resume();
  socket.end(`${lines.join("\r\n")}\r\n\r\n${body}`);
}
