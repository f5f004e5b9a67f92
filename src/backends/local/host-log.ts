/** The host process's log, an object a line on its standard error, as lines of the backend's own log. */
import type { Readable } from "node:stream";
import { createInterface } from "node:readline";

import type { Logger } from "../../common/logger.ts";

/** Number of last lines that are kept, for messages that say why the process has ended. */
const keptLines = 20;

/** The log of the host process: each line goes to the backend's log as it comes, and the last ones are kept. */
export class HostLog {
  readonly #logger: Logger;
  #last: string[] = [];

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** The last messages, one a line; after a crash the end of its stack. */
  get lastWords(): string {
    return this.#last.join("\n");
  }

  /** Reads a process's standard error to its end. */
  follow(stderr: Readable): void {
    createInterface({ input: stderr }).on("line", (line) => this.#take(line));
  }

  #take(line: string): void {
    const record = recordOf(line);
    if (record === undefined) {
      this.#keep(line);
      this.#logger.warn(`the host process: ${line}`);
      return;
    }
    const { time: _, level, msg, ...values } = record;
    this.#keep([msg, values["error"]].filter((part) => part !== undefined).join(": "));
    this.#logger[levelOf(level)](values, `the host process: ${String(msg)}`);
  }

  #keep(line: string): void {
    this.#last = [...this.#last, line].slice(-keptLines);
  }
}

/** A line of `log/slog`; undefined for anything else, such as a stack. */
function recordOf(line: string): Record<string, unknown> | undefined {
  try {
    const record: unknown = JSON.parse(line);
    return typeof record === "object" && record !== null && "msg" in record ? { ...record } : undefined;
  } catch {
    return undefined;
  }
}

function levelOf(level: unknown): "debug" | "info" | "warn" | "error" {
  switch (level) {
    case "DEBUG":
      return "debug";
    case "INFO":
      return "info";
    case "ERROR":
      return "error";
    default:
      return "warn";
  }
}
