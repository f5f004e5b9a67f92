/** Docker's progress stream: one JSON object per line, errors in band once the first line has been sent. */
import type { ServerResponse } from "node:http";

import { systemError } from "../../common/errors.ts";
import { stringifyJson } from "../../common/stringify-json.ts";
import { errorReply } from "../http-status.ts";
import { replyPart } from "./reply.ts";

/** Writes lines to a client at the client's pace. */
export class ProgressStream {
  readonly #response: ServerResponse;
  readonly #signal: AbortSignal;

  /** @param signal ends a wait for a client that does not read */
  constructor(response: ServerResponse, signal: AbortSignal) {
    this.#response = response;
    this.#signal = signal;
  }

  /** True if a line has been sent, so that the status can no longer report an error. */
  get #begun(): boolean {
    return this.#response.headersSent;
  }

  /** Writes lines; the first one sends the header. */
  async write(lines: readonly Record<string, unknown>[]): Promise<void> {
    if (!this.#begun) {
      this.#response.writeHead(200, { "Content-Type": "application/json" });
    }
    const text = lines.map((line) => `${stringifyJson(line)}\r\n`).join("");
    await replyPart(this.#response, text, this.#signal);
  }

  /**
   * Writes the backend's messages about a task, and ends the stream. Once a line has been sent, or always with
   * `alwaysInBand`, a failure is one more line.
   *
   * @param task name for error messages: `pull`
   * @param lineOf the line for a message, also for each that one has `more` of; undefined: none
   * @throws the task's failure, if no line has been sent; SockerlessError of kind `system` if the messages stop without
   *   an `end`
   */
  async relay<Message extends { readonly case: string | undefined; readonly value?: unknown }>(
    task: string,
    messages: AsyncIterable<{ readonly message: Message }> | Iterable<{ readonly message: Message }>,
    lineOf: (message: Message) => Record<string, unknown> | undefined,
    { alwaysInBand = false } = {},
  ): Promise<void> {
    try {
      let isComplete = false;
      for await (const { message } of messages) {
        const lines = withMore(message).map(lineOf);
        const told = lines.filter((line) => line !== undefined);
        if (told.length > 0) {
          await this.write(told);
        }
        isComplete ||= message.case === "end";
      }
      if (!isComplete) {
        throw systemError(`the backend ended a ${task} without telling its result`);
      }
    } catch (error) {
      if (!alwaysInBand && !this.#begun) {
        throw error;
      }
      await this.#writeError(error);
    }
    this.end();
  }

  /** Writes an error in both of the forms that clients look for. */
  async #writeError(error: unknown): Promise<void> {
    const { message } = errorReply(error);
    await this.write([{ errorDetail: { message }, error: message }]);
  }

  /** Ends the stream; without any line it is an empty 200. */
  end(): void {
    if (!this.#begun) {
      this.#response.writeHead(200, { "Content-Type": "application/json" });
    }
    this.#response.end();
  }
}

/** A message, and the others that came in it. */
function withMore<Message extends { readonly value?: unknown }>(message: Message): readonly Message[] {
  const { more = [] } = (message.value ?? {}) as { readonly more?: readonly unknown[] };
  return [message, ...more.map((value) => ({ ...message, value }))];
}
