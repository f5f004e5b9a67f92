/**
 * Logging: one JSON object a line on standard error, or short lines for people where standard error is a terminal.
 * A process makes one root logger from its configuration and hands child loggers to its parts.
 */
import { writeSync } from "node:fs";
import { isatty } from "node:tty";

import { type DestinationStream, destination, type Logger, pino } from "pino";

import type { LogFormat, LogLevel } from "./config/load.ts";
import { requestIdOf } from "./errors.ts";
import { maskSecrets } from "./mask-secrets.ts";
import { currentRequestId } from "./request-id.ts";

export type { Logger } from "pino";

/** File descriptor of standard error. */
const standardError = 2;

/** How a root logger is made. */
export interface LoggerOptions {
  readonly level: LogLevel;
  /** The program, `frontend` or `backend`; in every line. */
  readonly process: string;
  /** How lines are written; `auto` where it is left out. */
  readonly format?: LogFormat;
  /** Destination of the lines instead of standard error; for tests. */
  readonly destination?: DestinationStream;
}

/** The root logger of one of our programs, as its configuration has it. */
export function processLogger(
  config: { readonly logLevel: LogLevel; readonly logFormat: LogFormat },
  name: string,
): Logger {
  return createLogger({ level: config.logLevel, format: config.logFormat, process: name });
}

/**
 * The root logger of a process. Errors are logged as `{ err }`; a message says what happened, values stand in the
 * object: `logger.info({ container: id }, "container started")`. Passwords of URLs are masked in every line.
 */
export function createLogger(options: LoggerOptions): Logger {
  return pino(
    {
      level: options.level,
      base: { process: options.process },
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }), log: withRequestId },
      mixin: currentRequest,
      hooks: { streamWrite: maskSecrets },
    },
    options.destination ?? (isForPeople(options.format) ? linesForPeople() : linesOnStandardError()),
  );
}

/**
 * Lines on standard error, written behind the caller's back. Where they have no room (a full disk) they are lost until
 * there is some, and nobody is served worse: meanwhile each is tried by itself, since what pino's destination cannot
 * write it keeps, and tries for ever at the process's end.
 */
function linesOnStandardError(): DestinationStream {
  const open = () =>
    destination({ fd: standardError, sync: false }).on("error", () => {
      lines?.destroy();
      lines = undefined;
    });
  let lines: ReturnType<typeof open> | undefined = open();
  const write = (line: string): void => {
    if (lines !== undefined) {
      lines.write(line);
      return;
    }
    try {
      writeSync(standardError, line);
      lines = open();
    } catch {
      // No room yet.
    }
  };
  return { write };
}

function isForPeople(format: LogFormat = "auto"): boolean {
  return format === "auto" ? isatty(standardError) : format === "text";
}

/** The ID of the client's request for which a line is written, as its field. */
function currentRequest(): { request?: string } {
  const request = currentRequestId();
  return request === undefined ? {} : { request };
}

/** Adds to an error's line the ID of the request that a cloud's service has refused. */
function withRequestId(values: Record<string, unknown>): Record<string, unknown> {
  const requestId = values["requestId"] ?? requestIdOf(values["err"]);
  return requestId === undefined ? values : { ...values, requestId };
}

/** The logger of one part of a process (`streams`, `engine`): its lines name it. */
export function componentLogger(parent: Logger, component: string): Logger {
  return parent.child({ component });
}

/**
 * One line of JSON as people like to read it: `12:30:01.000 warn backend/engine: message container=abc`. The stack of an
 * error is shown below it.
 */
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
  const values = Object.entries(rest).map(([name, value]) => ` ${name}=${valueForPeople(value)}`);
  const stack =
    typeof err === "object" && err !== null && "stack" in err
      ? `\n${String(err.stack).replaceAll(/^/gm, "  ")}`
      : "";
  return `${String(time).slice(11, 23)} ${String(level)} ${String(origin)}: ${String(msg ?? "")}${values.join("")}${stack}\n`;
}

/** Plain words stand as they are; what has spaces, quotes or structure is quoted as JSON. */
function valueForPeople(value: unknown): string {
  return typeof value === "string" && /^[^\s"={}[\]]+$/.test(value) ? value : JSON.stringify(value);
}

/** Lines on a terminal, or what a user has in its place. */
function linesForPeople(): DestinationStream {
  const { stderr } = process;
  if (stderr.listenerCount("error") === 0) {
    stderr.on("error", () => {}); // Lines for which there is no room are lost.
  }
  return { write: (line) => void stderr.write(formatForTerminal(line)) };
}
