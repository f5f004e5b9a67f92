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

/** Milliseconds that a client of a stream has to read its end while it still sends: closed then, it would lose the rest. */
export const longestLingerMs = 30_000;

/**
 * Closes a connection whose answer has ended and was sent, unless the client does: it would keep its descriptor for as long
 * as it likes. Drops what the client still sends.
 *
 * @param mostMs time that a client has which does not stop sending; one that does has {@link lingerMs}
 */
export function closeBehindAnswer(socket: Socket, mostMs: number): void {
  const destroy = (): void => void socket.destroy();
  const close = (): void => {
    const silence = setTimeout(destroy, lingerMs).unref();
    const limit = setTimeout(destroy, mostMs).unref();
    socket.on("data", () => silence.refresh());
    socket.once("close", () => {
      clearTimeout(silence);
      clearTimeout(limit);
    });
  };
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
