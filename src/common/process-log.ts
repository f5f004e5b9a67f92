/** The lines of a program that we run, objects or plain text on its standard error, as lines of our own log. */
import type { Readable } from "node:stream";
import { createInterface } from "node:readline";

/** Writes one line: its values, and what happened. */
export type WriteLine = (values: object, message: string) => void;

/** The part of a logger that others' lines go to. */
export type LineLogger = Readonly<Record<"debug" | "info" | "warn" | "error", WriteLine>>;

/** Number of last lines that are kept, for messages that say why the process has ended. */
const keptLines = 20;

/** The log of another program: each line goes to our log as it comes, and the last ones are kept. */
export class ProcessLog {
  readonly #logger: LineLogger;
  readonly #component: string;
  #last: string[] = [];

  /** @param component name of the program in its lines */
  constructor(logger: LineLogger, component: string) {
    this.#logger = logger;
    this.#component = component;
  }

  /** The last messages, one a line; after a crash the end of its stack. */
  get lastWords(): string {
    return this.#last.join("\n");
  }

  /** Reads what a process prints to its end; one that could not be started has no output. */
  follow(printed: Readable | null | undefined): void {
    if (printed) {
      createInterface({ input: printed }).on("line", (line) => this.#take(line));
    }
  }

  #take(line: string): void {
    const record = recordOf(line);
    if (record === undefined) {
      this.#keep(line);
      this.#logger.warn({ component: this.#component }, line);
      return;
    }
    const { time: _, level, msg, ...values } = record;
    this.#keep([msg, values["error"]].filter((part) => part !== undefined).join(": "));
    this.#logger[levelOf(level)]({ component: this.#component, ...values }, String(msg));
  }

  #keep(line: string): void {
    this.#last = [...this.#last, line].slice(-keptLines);
  }
}

/** A line of `log/slog` or logrus; undefined for anything else, such as a stack. */
function recordOf(line: string): Record<string, unknown> | undefined {
  try {
    const record: unknown = JSON.parse(line);
    return typeof record === "object" && record !== null && "msg" in record ? { ...record } : undefined;
  } catch {
    return undefined;
  }
}

function levelOf(level: unknown): keyof LineLogger {
  switch (String(level).toLowerCase()) {
    case "debug":
      return "debug";
    case "info":
      return "info";
    case "error":
    case "fatal":
    case "panic":
      return "error";
    default:
      return "warn";
  }
}
