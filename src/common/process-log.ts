/** Copies the output of programs that we run (JSON objects or plain text on standard error) into our own log. */
import type { Readable } from "node:stream";

/** Writes a line: its values and its message. */
export type WriteLine = (values: object, message: string) => void;

/** The part of a logger that receives other programs' lines. */
export type LineLogger = Readonly<Record<"debug" | "info" | "warn" | "error", WriteLine>>;

/** A line for the log, as one thread posts it to another. */
export interface LogLine {
  readonly kind: "log";
  readonly level: keyof LineLogger;
  readonly values: object;
  readonly message: string;
}

/** A logger whose lines another thread writes. */
export function postingLogger(post: (line: LogLine) => void): LineLogger {
  const writeAs =
    (level: keyof LineLogger): WriteLine =>
    (values, message) =>
      post({ kind: "log", level, values, message });
  return { debug: writeAs("debug"), info: writeAs("info"), warn: writeAs("warn"), error: writeAs("error") };
}

/** The number of last lines kept for messages that explain why the process ended. */
const keptLines = 20;

/** Characters of a line that are read: what a program prints may be somebody else's text. The rest is dropped. */
const longestLine = 64 * 1024;

/** The log of another program: passes each line on to our log, and keeps the last ones. */
export class ProcessLog {
  readonly #logger: LineLogger;
  readonly #component: string;
  #last: string[] = [];

  /** @param component the program's name in its lines */
  constructor(logger: LineLogger, component: string) {
    this.#logger = logger;
    this.#component = component;
  }

  /** The last messages, one per line; after a crash the end of its stack. */
  get lastLines(): string {
    return this.#last.join("\n");
  }

  /** Reads a process's output until it ends; a process that could not be started has none. */
  follow(printed: Readable | null | undefined): void {
    let line = "";
    const append = (text: string): void => {
      line += text.slice(0, longestLine - line.length);
    };
    printed?.setEncoding("utf8").on("data", (text: string) => {
      const [end = "", ...lines] = text.split("\n");
      append(end);
      for (const each of lines) {
        this.#take(line);
        line = "";
        append(each);
      }
    });
    printed?.on("end", () => {
      if (line !== "") {
        this.#take(line);
      }
    });
  }

  #take(line: string): void {
    const record = recordOf(line);
    if (record === undefined) {
      this.#keep(line);
      this.#logger.warn({ component: this.#component }, line);
      return;
    }
    const { time: _, level, msg, ...values } = record;
    this.#keep([msg, values["error"]].filter((part) => typeof part === "string").join(": "));
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
    return typeof record === "object" && record !== null && "msg" in record && typeof record.msg === "string"
      ? { ...record }
      : undefined;
  } catch {
    return undefined;
  }
}

function levelOf(level: unknown): keyof LineLogger {
  switch (typeof level === "string" ? level.toLowerCase() : undefined) {
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
