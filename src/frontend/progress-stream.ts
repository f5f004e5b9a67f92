/** Docker's progress stream: one JSON object a line, errors in band once the first line is out. */
import { once } from "node:events";
import type { ServerResponse } from "node:http";

import { fromUnknown } from "../common/errors.ts";
import { stringifyJson } from "./reply.ts";

/** Writes lines to a client at the client's pace. */
export class ProgressStream {
  readonly #response: ServerResponse;
  readonly #signal: AbortSignal;

  /** @param signal ends a wait for a client that does not read */
  constructor(response: ServerResponse, signal: AbortSignal) {
    this.#response = response;
    this.#signal = signal;
  }

  /** Whether a line is out, so that the status can no longer tell of an error. */
  get begun(): boolean {
    return this.#response.headersSent;
  }

  /** Writes one line; the first one sends the header. */
  async write(line: Record<string, unknown>): Promise<void> {
    if (!this.begun) {
      this.#response.writeHead(200, { "Content-Type": "application/json" });
    }
    if (!this.#response.write(`${stringifyJson(line)}\r\n`)) {
      await once(this.#response, "drain", { signal: this.#signal });
    }
  }

  /** Writes an error as clients look for it, in both of its forms. */
  async writeError(error: unknown): Promise<void> {
    const { message } = fromUnknown(error);
    await this.write({ errorDetail: { message }, error: message });
  }

  /** Ends the stream; without any line it is an empty 200. */
  end(): void {
    if (!this.begun) {
      this.#response.writeHead(200, { "Content-Type": "application/json" });
    }
    this.#response.end();
  }
}
