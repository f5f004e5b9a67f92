/** Progress of load and pull, in Docker's words. */

/** One line of Docker's progress stream. */
export interface ProgressLine {
  /** Short ID of a layer, or a tag; empty: the whole. */
  readonly id: string;
  /** `Downloading`, `Pull complete`, … */
  readonly status: string;
  /** Bytes. */
  readonly current?: number;
  /** Bytes; undefined: not known. */
  readonly total?: number;
}

/** Takes a line of progress; never waits. */
export type ReportProgress = (line: ProgressLine) => void;
