/**
 * Logging: one JSON object a line on standard error, or short lines for people where standard error is a terminal.
 * A process makes one root logger from its configuration and hands child loggers to its parts.
 */
import { isatty } from "node:tty";

import { type DestinationStream, destination, type Logger, pino } from "pino";

import type { LogLevel } from "./config/load.ts";
import { requestIdOf } from "./errors.ts";

export type { Logger } from "pino";

/** Where standard error is. */
const standardError = 2;

/** How a root logger is made. */
export interface LoggerOptions {
  readonly level: LogLevel;
  /** The program, `frontend` or `backend`; in every line. */
  readonly process: string;
  /** Where lines go instead of standard error; for tests. */
  readonly destination?: DestinationStream;
}

/**
 * The root logger of a process. Errors are logged as `{ err }`; a message says what happened, values stand in the
 * object: `logger.info({ container: id }, "container started")`.
 */
export function createLogger(options: LoggerOptions): Logger {
  return pino(
    {
      level: options.level,
      base: { process: options.process },
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }), log: withRequestId },
    },
    options.destination ??
      (isatty(standardError) ? terminal : destination({ fd: standardError, sync: false })),
  );
}

/** An error's line tells which request a service has refused. */
function withRequestId(values: Record<string, unknown>): Record<string, unknown> {
  const requestId = values["requestId"] ?? requestIdOf(values["err"]);
  return requestId === undefined ? values : { ...values, requestId };
}

/** The logger of one part of a process (`streams`, `engine`): its lines name it. */
export function componentLogger(parent: Logger, component: string): Logger {
  return parent.child({ component });
}

/** One line of JSON as people like to read it: `12:30:01.000 warn backend/engine: message {"container":"…"}`. */
export function formatForTerminal(line: string): string {
  const {
    time,
    level,
    process: program,
    component,
    msg,
    err,
    ...rest
  } = JSON.parse(line) as Record<string, unknown>;
  const origin = component === undefined ? program : `${String(program)}/${String(component)}`;
  const values = Object.keys(rest).length === 0 ? "" : ` ${JSON.stringify(rest)}`;
  const stack =
    typeof err === "object" && err !== null && "stack" in err
      ? `\n${String(err.stack).replaceAll(/^/gm, "  ")}`
      : "";
  return `${String(time).slice(11, 23)} ${String(level)} ${String(origin)}: ${String(msg ?? "")}${values}${stack}\n`;
}

const terminal: DestinationStream = {
  write: (line) => {
    process.stderr.write(formatForTerminal(line));
  },
};
