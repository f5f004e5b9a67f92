/** The platform that containers run on: this machine, or a cloud that may be slow to answer. */
import type { FoundWorkload } from "./workloads.ts";

/** The platform that containers run on: at hand, or one that may be slow to answer. */
export type Platform = PlatformAtHand | RemotePlatform;

/** A machine: a backend waits for it, and does not start where it fails. */
export interface PlatformAtHand {
  readonly kind: "at-hand";
}

/** A cloud: it may be slow or away while the backend starts and ends. */
export interface RemotePlatform {
  readonly kind: "remote";
  /**
   * Milliseconds that the backend's start waits for the answers of others, for all of them together;
   * questions that are open then are asked behind it.
   */
  readonly startPatienceMs: number;
  /** The answer of `Workloads.list` as far as it is known here; containers that ran are taken to run. */
  known(): readonly FoundWorkload[];
  /**
   * Ends calls that wait for the answers of others, since the engine ends and waits no longer. The next
   * process takes up what they were for.
   */
  abandon(): void;
}
