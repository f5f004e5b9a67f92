/**
 * Concurrent pulls of one reference share their work: a later caller sees the current progress and waits for the same
 * result.
 */
import { unlessAborted } from "../concurrency/unless-aborted.ts";
import type { ProgressLine, ReportProgress } from "./progress.ts";
import type { FinishedPull } from "./pull.ts";

/** Work shared by several callers. */
export type SharedWork = (report: ReportProgress, signal: AbortSignal) => Promise<FinishedPull>;

interface SharedPull {
  readonly result: Promise<FinishedPull>;
  readonly listeners: Set<ReportProgress>;
  /** The latest line of each layer, for later callers. */
  readonly latest: Map<string, ProgressLine>;
  readonly abort: AbortController;
}

/** The pulls in progress, by key. */
export class SharedPulls {
  readonly #pulls = new Map<string, SharedPull>();

  /**
   * Joins the pull with a key, or starts it. The work is aborted when its last caller has left.
   *
   * @throws the work's error; the signal's reason
   */
  async join(
    key: string,
    report: ReportProgress,
    signal: AbortSignal,
    work: SharedWork,
  ): Promise<FinishedPull> {
    signal.throwIfAborted();
    const pull = this.#pulls.get(key) ?? this.#begin(key, work);
    for (const line of pull.latest.values()) {
      report(line);
    }
    pull.listeners.add(report);
    try {
      return await unlessAborted(signal, pull.result);
    } finally {
      pull.listeners.delete(report);
      if (pull.listeners.size === 0 && signal.aborted) {
        this.#end(key, pull);
        pull.abort.abort(signal.reason);
        await pull.result.catch(() => undefined);
      }
    }
  }

  #begin(key: string, work: SharedWork): SharedPull {
    const listeners = new Set<ReportProgress>();
    const latest = new Map<string, ProgressLine>();
    const abort = new AbortController();
    const report: ReportProgress = (line) => {
      latest.set(line.id === "" ? line.status : line.id, line);
      for (const listener of listeners) {
        listener(line);
      }
    };
    const result = Promise.try(work, report, abort.signal).finally(() => this.#end(key, pull));
    // Callers get the failure; without this handler the promise itself would count as unhandled.
    result.catch(() => undefined);
    const pull: SharedPull = { result, listeners, latest, abort };
    this.#pulls.set(key, pull);
    return pull;
  }

  #end(key: string, pull: SharedPull): void {
    if (this.#pulls.get(key) === pull) {
      this.#pulls.delete(key);
    }
  }
}
