/** Pulls of one reference at a time share their work: who comes later sees where it stands and waits for the same end. */
import { unlessAborted } from "../concurrency/unless-aborted.ts";
import type { ProgressLine, ReportProgress } from "./progress.ts";
import type { FinishedPull } from "./pull.ts";

/** Work that several wait for. */
export type SharedWork = (report: ReportProgress, signal: AbortSignal) => Promise<FinishedPull>;

interface SharedPull {
  readonly result: Promise<FinishedPull>;
  readonly listeners: Set<ReportProgress>;
  /** The latest line of each layer, for those who come later. */
  readonly latest: Map<string, ProgressLine>;
  readonly abort: AbortController;
}

/** The pulls under way by key. */
export class SharedPulls {
  readonly #pulls = new Map<string, SharedPull>();

  /**
   * Joins the pull of that key or begins it. The work is aborted when the last who waits for it has left.
   *
   * @throws what the work throws; the signal's reason
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
    // Those who wait get the failure; the promise alone must not count as unhandled.
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
