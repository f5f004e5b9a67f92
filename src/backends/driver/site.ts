/** The site that containers run on: this machine, or a cloud that may answer slowly. */
import type { FoundWorkload } from "./workloads.ts";

export type Site = SiteAtHand | RemoteSite;

/** A machine: the backend waits for its answers, and does not start if they fail. */
export interface SiteAtHand {
  readonly kind: "at-hand";
}

/** A cloud: it may be slow or unreachable while the backend starts and ends. */
export interface RemoteSite {
  readonly kind: "remote";
  /**
   * Milliseconds that the backend's start waits for the cloud's answers altogether; requests still open then continue
   * in the background.
   */
  readonly startPatienceMs: number;
  /** The answer of `Workloads.list` from local knowledge; containers that were running count as running. */
  known(): readonly FoundWorkload[];
  /** Cancels calls that wait for the cloud, because the engine is ending. The next process repeats their work. */
  abandon(): void;
}
