/** The most memory that each of a daemon's processes had while something went on. */
import { setTimeout } from "node:timers/promises";
import type { Daemon } from "../support/daemon.ts";
import { processOf, residentBytes, findShim } from "../support/processes.ts";

const intervalMs = 100;
const mib = 1024 * 1024;

export class PeakMemory implements Disposable {
  readonly #processes: ReadonlyMap<string, number>;
  readonly #first: ReadonlyMap<string, number>;
  readonly #peaks = new Map<string, number>();
  readonly #timer: NodeJS.Timeout;

  private constructor(processes: ReadonlyMap<string, number>) {
    this.#processes = processes;
    this.#sample();
    this.#first = new Map(this.#peaks);
    this.#timer = setInterval(() => this.#sample(), intervalMs);
  }

  /** Begins to look, ten times a second, at the daemon's processes and the shims of these containers. */
  static async of(daemon: Daemon, containerIds: readonly string[] = []): Promise<PeakMemory> {
    const processes = new Map<string, number>();
    for (const role of ["frontend", "backend", "host"] as const) {
      processes.set(role, await processOf(daemon, role));
    }
    for (const [index, id] of containerIds.entries()) {
      processes.set(`shim ${index}`, findShim(daemon, id) ?? 0);
    }
    return new PeakMemory(processes);
  }

  /** Resident MiB at the peak, by process. */
  get mebibytes(): ReadonlyMap<string, number> {
    this.#sample();
    return new Map([...this.#peaks].map(([name, bytes]) => [name, Math.round(bytes / mib)]));
  }

  /** The processes that grew by more than so many MiB, and the figures. */
  grownBeyond(limits: Readonly<Record<string, number>>): string[] {
    return [...this.mebibytes].flatMap(([name, peak]) => {
      const limit = limits[name.split(" ")[0] ?? ""] ?? Number.POSITIVE_INFINITY;
      const before = Math.round((this.#first.get(name) ?? 0) / mib);
      return peak > before + limit ? [`${name}: ${before} MiB, at the peak ${peak} MiB`] : [];
    });
  }

  /** One line for a test's log. */
  toString(): string {
    return [...this.mebibytes]
      .map(([name, peak]) => `${name} ${Math.round((this.#first.get(name) ?? 0) / mib)} → ${peak} MiB`)
      .join(", ");
  }

  /** Once no process grows any more. */
  async settled(): Promise<void> {
    for (let before = 0, now = this.#resident(), quiet = 0; quiet < 3; before = now, now = this.#resident()) {
      quiet = now < before + mib ? quiet + 1 : 0;
      await setTimeout(5 * intervalMs);
    }
  }

  #resident(): number {
    return [...this.#processes.values()].reduce((sum, pid) => sum + residentBytes(pid), 0);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #sample(): void {
    for (const [name, pid] of this.#processes) {
      this.#peaks.set(name, Math.max(this.#peaks.get(name) ?? 0, residentBytes(pid)));
    }
  }
}
