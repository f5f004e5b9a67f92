import { SockerlessError } from "../../../common/errors.ts";
import type { Stream } from "../../../gen/sockerless/agent/v1/agent_pb.ts";

/** The agent's last lines have not come to the cloud's log, and may yet come: a log is late by minutes on some clouds. */
export class LinesLate extends SockerlessError {
  constructor(message: string) {
    super("unavailable", message);
  }
}

/** A part of a line, or a whole one. */
export interface LogPiece {
  readonly stream: Stream.STDOUT | Stream.STDERR;
  /** Unix time in nanoseconds of the record in which the line began. */
  readonly timeNs: bigint;
  readonly data: Uint8Array;
  /** It begins its line. */
  readonly begins: boolean;
  /** It ends its line, with or without a newline. */
  readonly ends: boolean;
}

/** The log that a cloud keeps of a container. */
export interface CloudLog {
  /** The cloud keeps it: else nothing is known but what was taken from agents. */
  readonly isKept: boolean;
  /**
   * Its lines, oldest first; a log that does not exist has none.
   *
   * @param range what of it is wanted at least; more may come
   */
  lines(containerId: string, range: CloudLogRange, signal: AbortSignal): AsyncIterable<LogPiece>;
  /**
   * The agent's own lines of the container's last task without their mark, newest first, as far as they are near the end.
   *
   * @throws LinesLate, behind those that there are
   */
  agentLines(containerId: string, signal: AbortSignal): AsyncIterable<string>;
}

/** The part of a cloud's log that is wanted. */
export interface CloudLogRange {
  /** The last lines only, exactly so many. */
  readonly tail: bigint | undefined;
  /** From here on; earlier lines may come too. Not together with `tail`. */
  readonly sinceNs: bigint | undefined;
  /** Nothing of the task that the container runs in. */
  readonly beforeLastTask?: boolean;
}
