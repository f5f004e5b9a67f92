/** An HTTP response on a connection that was taken from Node's HTTP server. */
import { type IncomingMessage, STATUS_CODES } from "node:http";
import type { Socket } from "node:net";

import { rawStream } from "../hijack.ts";
import { errorBody, type ErrorReply } from "../http-status.ts";
import { ApiResponse } from "./api-response.ts";

/**
 * Writes an error to a client that asked for an upgrade, and closes the connection.
 *
 * @param isText whether it is plain text with the stream's content type, as dockerd refuses an attach; else JSON
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
  // Bytes that the client still sends are read and dropped: unread bytes would turn the close into a reset, and the
  // client would never see the answer.
  socket.resume();
  socket.end(`${lines.join("\r\n")}\r\n\r\n${body}`);
}

/**
 * Milliseconds for which a connection stays open after its answer, for a client that still sends: if closed at once,
 * the client's write would fail and it would never read the answer. As in Go's server.
 */
export const lingerMs = 500;

/** Milliseconds for a stream's client to read the rest of the output while it still sends. */
export const longestLingerMs = 30_000;

/**
 * Closes a connection after its complete answer, unless the client does so first, which could hold the descriptor open
 * for as long as it likes. Drops what the client still sends.
 *
 * @param mostMs time limit for a client that keeps sending; one that has stopped has {@link lingerMs}
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

/** The header of an answer whose chunked body follows later and ends the connection. */
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

/** A request's header as received, for a parser, one byte per character. */
export function headerText({ method, url, rawHeaders }: IncomingMessage): string {
  const lines = [`${method} ${url} HTTP/1.1`];
  for (let index = 0; index < rawHeaders.length; index += 2) {
    lines.push(`${rawHeaders[index]}: ${rawHeaders[index + 1]}`);
  }
  return `${lines.join("\r\n")}\r\n\r\n`;
}
