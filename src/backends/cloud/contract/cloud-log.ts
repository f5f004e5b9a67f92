import { SockerlessError } from "../../../common/errors.ts";
import type { Stream } from "../../../gen/sockerless/agent/v1/agent_pb.ts";

/** The agent's last lines have not reached the cloud's log yet, which on some clouds is late by minutes. */
export class LinesLate extends SockerlessError {
  constructor(message: string) {
    super("unavailable", message);
  }
}

/** A part of a line, or one or more lines that began in one record. */
export interface LogPiece {
  readonly stream: Stream.STDOUT | Stream.STDERR;
  /** Unix time in nanoseconds of the record in which its lines began. */
  readonly timeNs: bigint;
  readonly data: Uint8Array;
  /** True if it begins with a line; otherwise it is a part of one. */
  readonly begins: boolean;
  /** True if it ends its last line, with or without a newline. */
  readonly ends: boolean;
}

/** A container's log as kept by a cloud. */
export interface CloudLog {
  /** Whether the cloud keeps it; otherwise only logs taken from agents exist. */
  readonly isKept: boolean;
  /**
   * Its lines, oldest first; a log that does not exist has none.
   *
   * @param range the minimum range to return
   */
  lines(containerId: string, range: CloudLogRange, signal: AbortSignal): AsyncIterable<LogPiece>;
  /**
   * The agent's own lines near the end of the container's last task, without their mark, newest first.
   *
   * @throws LinesLate, after all available lines
   */
  agentLines(containerId: string, signal: AbortSignal): AsyncIterable<string>;
}

/** The requested part of a cloud's log. */
export interface CloudLogRange {
  /** Exact number of last lines. */
  readonly tail: bigint | undefined;
  /** Start of the range; earlier lines may be included. Not combined with `tail`. */
  readonly sinceNs: bigint | undefined;
  /** Excludes the task that the container runs in. */
  readonly beforeLastTask?: boolean;
}
