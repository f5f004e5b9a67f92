/** A logger for tests that keeps its lines. */
import { createLogger, type Logger } from "../../../common/logger.ts";

/** One line of the log. */
export type LogLine = Readonly<Record<string, unknown>>;

/** Creates a logger that keeps its lines. */
export function capturedLogger(): {
  readonly logger: Logger;
  readonly lines: LogLine[];
  /** The messages of all warnings, in order. */
  readonly warnings: () => string[];
} {
  const lines: LogLine[] = [];
  const logger = createLogger({
    level: "debug",
    process: "backend",
    destination: { write: (line) => void lines.push(JSON.parse(line) as LogLine) },
  });
  const warnings = (): string[] =>
    lines.filter(({ level }) => level === "warn").map(({ msg }) => String(msg));
  return { logger, lines, warnings };
}
