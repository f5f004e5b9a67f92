/** kill -9 of a daemon's processes: one, two one after the other, or all, at moments between entries of its journal. */
import { watch } from "node:fs";
import { readFile, rm, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

import type { Daemon } from "../../support/daemon.ts";
import {
  childrenOf,
  commandLineOf,
  type DaemonRole,
  findProcess,
  Life,
  processIds,
} from "../../support/processes.ts";
import { until, untilTrue } from "../../support/until.ts";
import type { Random } from "../../support/random.ts";

/** Processes to be killed; `shims` are all of them. */
type Victim = DaemonRole | "shim" | "shims" | "supervisor";

const singles: readonly Victim[] = [
  "frontend",
  "backend",
  "host",
  "forwarder",
  "shim",
  "builder",
  "supervisor",
];
const allButSupervisor: readonly Victim[] = ["backend", "shims", "frontend", "forwarder", "host", "builder"];

/** Steps at which the process that comes there is killed, with who that is. */
const steps: Readonly<Record<string, Victim>> = {
  ...{ "host.launch.prepared": "host", "host.launch.shim-spawned": "host", "host.launch.shim-ready": "host" },
  ...{ "host.create.seeded": "host", "host.release.stopped": "host", "host.remove.released": "host" },
  ...{ "shim.start.created": "shim", "shim.start.announced": "shim", "shim.start.executing": "shim" },
  ...{ "shim.end.recorded": "shim" },
  ...{ "workloads.create.after": "backend", "workloads.launch.before": "backend" },
  ...{ "workloads.launch.after": "backend", "workloads.release.after": "backend" },
  ...{ "state.commit.before:3": "backend", "state.commit.after:3": "backend" },
};

/** How long a moment is waited for that may not come. */
const momentLimitMs = 3000;

/** A kill, as the seed decides it. */
export interface Kill {
  /** Milliseconds for which clients have done what they do before it. */
  readonly after: number;
  /** Killed one after the other. */
  readonly victims: readonly Victim[];
  /** Milliseconds between two of them; `back`: once another process has taken the first one's place. */
  readonly between: number | "back";
  /** The step at which it begins, or so many entries and milliseconds from now. */
  readonly at: string | { readonly entries: number; readonly ms: number };
  /** The next one begins only once the daemon answers. */
  readonly settles: boolean;
}

/** Decides a kill. */
export function planKill(random: Random): Kill {
  const kind = random.below(100);
  const after = random.pick([0, 200, 500, 1000, 2000]);
  const supervisors = random.percent(40) ? (["supervisor"] as const) : [];
  const victims =
    kind < 50
      ? [random.pick(singles)]
      : kind < 85
        ? [random.pick(singles), random.pick(singles)]
        : [...allButSupervisor, ...supervisors];
  const first = random.pick(Object.keys(steps));
  const settles = random.percent(50);
  if (random.percent(30)) {
    const rest = kind < 50 ? [] : victims.filter((victim) => victim !== steps[first]);
    return { after, victims: [steps[first] ?? "backend", ...rest], between: 0, at: first, settles };
  }
  const between = kind < 85 ? random.pick([0, 3, 40, "back"] as const) : 0;
  const at = { entries: random.below(30), ms: random.pick([0, 0, 1, 2, 5, 10]) };
  return { after, victims, between, at, settles };
}

/** Describes a kill in a word or two, as tables have it. */
export function kindOf({ victims }: Kill): string {
  return victims.length > 2 ? "all at once" : victims.join(", ");
}

/** Kills, and counts the processes that died. */
export class Killer {
  readonly #daemon: Daemon;
  readonly #armed: string;
  readonly #record: string;
  readonly #random: Random;

  /** @param armed file of the step to be killed at @param record file of the backend's steps, which has to be there */
  constructor(daemon: Daemon, armed: string, record: string, random: Random) {
    this.#daemon = daemon;
    this.#armed = armed;
    this.#record = record;
    this.#random = random;
  }

  /** Kills when its moment has come. @returns how many processes died by it */
  async kill({ after, victims, between, at, settles }: Kill): Promise<number> {
    await delay(after);
    // Looking for processes takes longer than what is to be hit.
    const found = victims.map((victim) => this.#find(victim));
    const orphans: Life[] = [];
    const isTaken = await this.#moment(at);
    let died = isTaken ? 1 : 0;
    for (const [index, victim] of victims.entries()) {
      if (index === 0 && isTaken) {
        continue; // It has died at its step.
      }
      if (index > 0) {
        await (between === "back" ? this.#back(victims[0], found[0]) : between > 0 && delay(between));
      }
      const lives = index > 0 && between !== 0 ? this.#find(victim) : (found[index] ?? []);
      if (victim === "supervisor" && lives.some(({ isOver }) => !isOver)) {
        orphans.push(...this.#stopSupervisor());
      }
      died += lives.filter((life) => life.kill()).length;
    }
    if (victims.includes("supervisor")) {
      await this.#launchAgain(orphans);
    }
    if (settles) {
      await untilTrue(async () => (await this.#daemon.docker("ps")).code === 0);
    }
    return died;
  }

  /** Stops the supervisor before it is killed: it starts no other child then. @returns its children */
  #stopSupervisor(): Life[] {
    const { pid } = this.#daemon;
    process.kill(pid, "SIGSTOP");
    return childrenOf(pid).map((child) => new Life(child));
  }

  /** Starts the daemon again once its dead supervisor's children have ended. */
  async #launchAgain(orphans: readonly Life[]): Promise<void> {
    try {
      await untilTrue(() => orphans.every(({ isOver }) => isOver));
    } catch (error) {
      const living = orphans.filter(({ isOver }) => !isOver);
      throw new Error(`outlive their supervisor:\n${living.join("\n")}`, { cause: error });
    }
    await this.#daemon.launch();
  }

  /** Waits for a moment. @returns whether a process has died at its step */
  async #moment(at: Kill["at"]): Promise<boolean> {
    if (typeof at !== "string") {
      await this.#entries(at.entries);
      await delay(at.ms);
      return false;
    }
    await writeFile(this.#armed, at);
    const isTaken = await this.#changes(this.#armed, async () => (await textOf(this.#armed)) === "");
    await rm(this.#armed, { force: true });
    return isTaken;
  }

  /** Waits for so many further entries of the journal. */
  async #entries(count: number): Promise<void> {
    const seen = async (): Promise<number> => (await textOf(this.#record)).split("\n").length;
    const enough = (await seen()) + count;
    if (count > 0) {
      await this.#changes(this.#record, async () => (await seen()) >= enough);
    }
  }

  /** Looks whenever a file changes, or comes or goes. @returns false: what is waited for did not come in time */
  async #changes(file: string, holds: () => Promise<boolean>): Promise<boolean> {
    const come = Promise.withResolvers<boolean>();
    const look = (): void => {
      void holds().then((isSo) => isSo && come.resolve(true));
    };
    const watcher = watch(dirname(file), look); // The file itself may be gone by now.
    const limit = setTimeout(() => come.resolve(false), momentLimitMs);
    try {
      look();
      return await come.promise;
    } finally {
      clearTimeout(limit);
      watcher.close();
    }
  }

  /** Waits until another process has taken a victim's place, where one does so by itself. */
  async #back(victim: Victim | undefined, lives: readonly Life[] | undefined): Promise<void> {
    if (victim !== "frontend" && victim !== "backend" && victim !== "host" && victim !== "forwarder") {
      return;
    }
    const [{ pid } = { pid: undefined }] = lives ?? [];
    await until(() => {
      const now = findProcess(this.#daemon, victim);
      return now === undefined || now === pid ? undefined : now;
    });
  }

  #find(victim: Victim): Life[] {
    return this.#pidsOf(victim).map((pid) => new Life(pid));
  }

  #pidsOf(victim: Victim): number[] {
    if (victim === "supervisor") {
      return [this.#daemon.pid];
    }
    if (victim === "shim" || victim === "shims") {
      const beginning = `shim --spec ${this.#daemon.stateDir}/`;
      const shims = processIds().filter((pid) => commandLineOf(pid).includes(beginning));
      return victim === "shims" || shims.length === 0 ? shims : [this.#random.pick(shims)];
    }
    const pid = findProcess(this.#daemon, victim);
    return pid === undefined ? [] : [pid];
  }
}

async function textOf(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch {
    return "";
  }
}
