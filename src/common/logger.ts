/**
 * Logging: one JSON object per line on standard error, or short readable lines if standard error is a terminal. A
 * process creates one root logger from its configuration and passes child loggers to its parts.
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

/** Options of a root logger. */
export interface LoggerOptions {
  readonly level: LogLevel;
  /** The program, `frontend` or `backend`; part of every line. */
  readonly process: string;
  /** Format of the lines; default `auto`. */
  readonly format?: LogFormat;
  /** Destination in place of standard error; for tests. */
  readonly destination?: DestinationStream;
}

/** Loggers of this process whose level {@link setLogLevel} changes. */
const processLoggers = new Set<Logger>();

/** The root logger of a sockerless program, with its configuration. */
export function processLogger(
  config: { readonly logLevel: LogLevel; readonly logFormat: LogFormat },
  name: string,
): Logger {
  const logger = createLogger({ level: config.logLevel, format: config.logFormat, process: name });
  processLoggers.add(logger);
  return logger;
}

/** Changes the level of all of this process's loggers. */
export function setLogLevel(level: LogLevel): void {
  for (const logger of processLoggers) {
    logger.level = level;
  }
}

/**
 * The root logger of a process. Errors are logged as `{ err }`; the message says what happened, values are in the
 * object: `logger.info({ container: id }, "container started")`. Passwords in URLs are masked in every line.
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
    options.destination ?? (usesTextFormat(options.format) ? textLines() : linesOnStandardError()),
  );
}

/**
 * Writes lines to standard error asynchronously. While there is no space for them (a full disk) they are lost; the
 * service goes on. Meanwhile each line is tried by itself: pino's destination keeps lines that it cannot write, and at
 * exit retries them forever.
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

function usesTextFormat(format: LogFormat = "auto"): boolean {
  return format === "auto" ? isatty(standardError) : format === "text";
}

/** The ID of the client's request that a line belongs to, as a field. */
function currentRequest(): { request?: string } {
  const request = currentRequestId();
  return request === undefined ? {} : { request };
}

/** Adds the ID that a cloud's service gave to the failed request. */
function withRequestId(values: Record<string, unknown>): Record<string, unknown> {
  const requestId = values["requestId"] ?? requestIdOf(values["err"]);
  return requestId === undefined ? values : { ...values, requestId };
}

/** The logger of a part of a process (`streams`, `engine`); its lines name the part. */
export function componentLogger(parent: Logger, component: string): Logger {
  const logger = parent.child({ component });
  if (processLoggers.has(parent)) {
    processLoggers.add(logger);
  }
  return logger;
}

/**
 * A JSON line in readable form: `12:30:01.000 warn backend/engine: message container=abc`, followed by an error's
 * stack.
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
  const values = Object.entries(rest).map(([name, value]) => ` ${name}=${textValue(value)}`);
  const stack =
    typeof err === "object" && err !== null && "stack" in err
      ? `\n${String(err.stack).replaceAll(/^/gm, "  ")}`
      : "";
  return `${String(time).slice(11, 23)} ${String(level)} ${String(origin)}: ${String(msg ?? "")}${values.join("")}${stack}\n`;
}

/** Prints plain words unquoted; values with spaces, quotes or structure as JSON. */
function textValue(value: unknown): string {
  return typeof value === "string" && /^[^\s"={}[\]]+$/.test(value) ? value : JSON.stringify(value);
}

/** Writes readable lines to standard error. */
function textLines(): DestinationStream {
  const { stderr } = process;
  if (stderr.listenerCount("error") === 0) {
    stderr.on("error", () => {}); // Lines that cannot be written are lost.
  }
  return { write: (line) => void stderr.write(formatForTerminal(line)) };
}
