/** Writing ordinary responses. */
import type { ServerResponse } from "node:http";
import { finished } from "node:stream";

import { onAbort } from "../../common/on-abort.ts";
import { stringifyJson } from "../../common/stringify-json.ts";
import { Turns } from "../../common/turns.ts";
import { errorBody, type ErrorReply } from "../http-status.ts";
import { lingerMs } from "./raw-response.ts";
import { UnreadAnswers } from "./unread-answers.ts";

/** Writes a value as dockerd does: one line, no HTML escapes. */
export function replyJson(response: ServerResponse, status: number, value: unknown): void {
  replyJsonText(response, status, [stringifyJson(value)]);
}

/** Characters of JSON that are made in one turn of the event loop. */
const charactersPerTurn = 262_144;

/** One part of all long answers is made in a turn. */
const turns = new Turns(1);

/**
 * Writes 200 with a list, or an object of lists, that may be long: other requests are answered between its parts. A list
 * may be an iterator, which makes a value when it is written.
 */
export async function replyLongJson(response: ServerResponse, value: object): Promise<void> {
  const parts = new JsonParts();
  await (isList(value) ? parts.addList(value) : parts.addObject(value));
  replyJsonText(response, 200, parts.all());
}

function isList(value: unknown): value is Iterable<unknown> {
  return typeof value === "object" && value !== null && Symbol.iterator in value;
}

/** JSON text in parts, since together they may be longer than a string can be. */
class JsonParts {
  readonly #parts: string[] = [];
  #texts: string[] = [];
  #length = 0;

  async addList(values: Iterable<unknown>): Promise<void> {
    await this.#add("[");
    let separator = "";
    for (const value of values) {
      await this.#add(`${separator}${stringifyJson(value)}`);
      separator = ",";
    }
    await this.#add("]");
  }

  async addObject(value: object): Promise<void> {
    let separator = "{";
    for (const [key, member] of Object.entries(value)) {
      if (member !== undefined) {
        await this.#add(`${separator}${JSON.stringify(key)}:`);
        await (isList(member) ? this.addList(member) : this.#add(stringifyJson(member)));
        separator = ",";
      }
    }
    await this.#add(separator === "{" ? "{}" : "}");
  }

  all(): readonly string[] {
    return [...this.#parts, this.#texts.join("")];
  }

  async #add(text: string): Promise<void> {
    if (this.#length > charactersPerTurn) {
      this.#parts.push(this.#texts.join(""));
      this.#texts = [];
      this.#length = 0;
      await turns.next();
    }
    this.#texts.push(text);
    this.#length += text.length;
  }
}

const unread = new UnreadAnswers(128 * 1024 * 1024);

/** Writes JSON text, which may come in parts, as {@link replyJson} does. */
function replyJsonText(response: ServerResponse, status: number, parts: readonly string[]): void {
  const length = parts.reduce((sum, part) => sum + Buffer.byteLength(part), 1);
  response.writeHead(status, { "Content-Type": "application/json", "Content-Length": length });
  unread.add(response, length);
  for (const part of parts.slice(0, -1)) {
    response.write(part);
  }
  response.end(`${parts.at(-1) ?? ""}\n`);
}

/** Most bytes of parts that wait. A part takes 600 bytes besides its own: lines of events take four times their length. */
const mostWaiting = 2_048;

/**
 * Writes a part of an answer, at the client's pace.
 *
 * @param signal ends the wait for a client that does not read
 */
export async function replyPart(
  response: ServerResponse,
  part: string | Uint8Array,
  signal: AbortSignal,
): Promise<void> {
  const written = Promise.withResolvers<void>();
  const hasRoom = response.write(part, (error) => {
    if ((error ?? undefined) === undefined) {
      written.resolve();
    }
  });
  if (!hasRoom || response.writableLength > mostWaiting) {
    using _unread = unread.hold(response, response.writableLength);
    using _leaving = onAbort(signal, () => written.reject(signal.reason));
    await written.promise;
  }
}

/** Writes a status without a body: 204, or 200 and 201 where dockerd answers them empty. */
export function replyEmpty(response: ServerResponse, status: 200 | 201 | 204): void {
  response.writeHead(status, status === 204 ? {} : { "Content-Length": 0 });
  response.end();
}

/** Writes an error. Nothing may have been written yet. */
export function replyError(response: ServerResponse, reply: ErrorReply): void {
  const body = errorBody(reply);
  const length = Buffer.byteLength(body);
  response.writeHead(
    reply.status,
    body === "" ? {} : { "Content-Type": "application/json", "Content-Length": length },
  );
  unread.add(response, length);
  const { req: request } = response;
  if (request.complete || response.shouldKeepAlive || body === "") {
    response.end(body);
    return;
  }
  response.write(body);
  const limit = setTimeout(() => response.end(), lingerMs);
  finished(request.resume(), () => {
    clearTimeout(limit);
    response.end();
  });
}

/** Answers that a request's target is elsewhere: 301. */
export function replyRedirect(response: ServerResponse, target: string): void {
  response.writeHead(301, { Location: target, "Content-Length": 0 });
  unread.add(response, target.length);
  response.end();
}
