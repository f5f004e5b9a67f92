/** Progress of load and pull, in Docker's words. */

/** A line of Docker's progress stream. */
export interface ProgressLine {
  /** Short ID of a layer, or a tag; empty for the whole operation. */
  readonly id: string;
  /** `Downloading`, `Pull complete`, … */
  readonly status: string;
  /** Bytes. */
  readonly current?: number;
  /** Bytes; undefined if unknown. */
  readonly total?: number;
}

/** Receives a line of progress; never blocks. */
export type ReportProgress = (line: ProgressLine) => void;
