/** An HTTP response on a connection that Node no longer speaks HTTP on. */
import { type IncomingMessage, STATUS_CODES } from "node:http";
import type { Socket } from "node:net";

import { rawStream } from "../hijack.ts";
import { errorBody, type ErrorReply } from "../http-status.ts";
import { ApiResponse } from "./api-response.ts";

/**
 * Writes an error to a client that asked for an upgrade, and closes the connection.
 *
 * @param isText whether it is a text under the stream's content type, as dockerd refuses an attach; else JSON
 */
export function writeRawError(
  socket: Socket,
  reply: ErrorReply,
  headers: Readonly<Record<string, string>>,
  isText: boolean,
): void {
  const body = isText ? `${reply.message}\r\n` : errorBody(reply);
  const lines = [
    `HTTP/1.1 ${reply.status} ${STATUS_CODES[reply.status]}`,
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
    `Content-Type: ${isText ? rawStream : "application/json"}`,
    `Content-Length: ${Buffer.byteLength(body)}`,
    "Connection: close",
  ];
  // Bytes that the client still sends are read and dropped: left unread they would turn the close into a
  // reset, and the client would never see the answer.
  socket.resume();
  socket.end(`${lines.join("\r\n")}\r\n\r\n${body}`);
}

/**
 * Milliseconds that a connection stays open behind its answer, for a client that still sends: closed at once, it would fail in
 * its write and never read the answer. As in Go's server.
 */
export const lingerMs = 500;

/**
 * Closes a connection whose answer has ended, once all of it was sent, where its client does not: it would keep its descriptor
 * for as long as it likes. What the client still sends is dropped.
 */
export function closeBehindAnswer(socket: Socket): void {
  const close = (): void => void setTimeout(() => socket.destroy(), lingerMs).unref();
  socket.resume();
  if (socket.writableFinished) {
    close();
  } else {
    socket.once("finish", close);
  }
}

/** The header of an answer whose body comes later, in chunks, and ends the connection. */
export function chunksHead(headers: Readonly<Record<string, string>>): string {
  const lines = [
    "HTTP/1.1 200 OK",
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
    `Date: ${new Date().toUTCString()}`,
    "Connection: close",
    "Transfer-Encoding: chunked",
  ];
  return `${lines.join("\r\n")}\r\n\r\n`;
}

/** The answer of a request, written by Node, and the last of its connection. */
export function lastResponse(request: IncomingMessage, socket: Socket): ApiResponse {
  const response = new ApiResponse(request);
  response.shouldKeepAlive = false;
  response.assignSocket(socket);
  response.once("finish", () => socket.destroySoon());
  return response;
}

/** The header of a request as it came, for a parser, one byte a character. */
export function headerText({ method, url, rawHeaders }: IncomingMessage): string {
  const lines = [`${method} ${url} HTTP/1.1`];
  for (let index = 0; index < rawHeaders.length; index += 2) {
    lines.push(`${rawHeaders[index]}: ${rawHeaders[index + 1]}`);
  }
  return `${lines.join("\r\n")}\r\n\r\n`;
}
