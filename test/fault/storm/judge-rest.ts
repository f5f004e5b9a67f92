/** Judges the rest once a storm is over: policies, what removes itself, what is on the machine. */
import { globSync, lstatSync, readFileSync } from "node:fs";
import { join } from "node:path";

import type { Daemon } from "../../support/daemon.ts";
import { messageOf } from "../../../src/common/errors.ts";
import { processesBelow } from "../../support/processes.ts";
import { containersOnDisk, interfacesOf, untilOnly } from "../../support/traces.ts";
import { until, untilTrue } from "../../support/until.ts";
import { assertSound } from "../whole-life.ts";
import type { Site } from "./site.ts";

/** Notes what does not hold of a daemon whose clients have ended, and removes its containers. */
export async function judgeRest(site: Site): Promise<void> {
  const { daemon } = site;
  await Promise.all(
    [...site.policies].map(([token, policy]) => noted(site, () => assertKept(site, token, policy))),
  );
  await noted(site, () => assertRemovedByItself(daemon));
  site.judgeRuns();
  await daemon.docker("rm", "--force", ...site.policies.keys());
  await noted(site, () => assertSound(daemon));
  await noted(site, async () => {
    const ids = new Set([...(await listed(daemon)), ...containersOnDisk(daemon)]);
    if (ids.size > 0) {
      await daemon.ok("rm", "--force", "--volumes", ...ids);
    }
    for (const id of ids) {
      await untilOnly(daemon, id, []);
    }
  });
}

/** Finds what is left of a daemon that has ended in an orderly way and has no containers. */
export async function left(daemon: Daemon): Promise<string[]> {
  let found: string[] = [];
  try {
    await until(() => {
      found = [
        ...processesBelow(daemon.stateDir),
        ...containersOnDisk(daemon),
        ...interfacesOf(daemon),
        ...globSync(`${daemon.runDir}/**`).filter((path) => lstatSync(path).isSocket()),
        ...readFileSync("/proc/self/mountinfo", "utf8")
          .split("\n")
          .filter((line) => line.includes(join(daemon.stateDir, "containers"))),
      ];
      return found.length === 0 || undefined;
    });
  } catch {
    // The last look tells what is left.
  }
  return found;
}

/** A policy goes on: its container is started again and again, or as often as it says. */
async function assertKept(site: Site, token: string, policy: string): Promise<void> {
  const { daemon } = site;
  const runs = site.runsOf(token);
  const state = (): Promise<string> =>
    daemon.ok("inspect", "--format={{.State.Status}} {{.RestartCount}} {{json .State}}", token);
  const [limit] = /\d+$/.exec(policy) ?? [];
  const isKept = async (): Promise<boolean> =>
    limit === undefined
      ? site.runsOf(token) > runs
      : (await state()).startsWith(`exited ${limit}`) && site.runsOf(token) <= Number(limit) + 1;
  try {
    await untilTrue(isKept); // for longer than a policy's pause gets in a round
  } catch {
    throw new Error(`${policy} of ${token} is given up: ${site.runsOf(token)} runs, ${await state()}`);
  }
}

/** Asserts that containers which remove themselves have done so. */
async function assertRemovedByItself(daemon: Daemon): Promise<void> {
  let staying: string[] = [];
  try {
    await untilTrue(async () => {
      const ids = await listed(daemon);
      const format = "{{.HostConfig.AutoRemove}} {{.State.Status}} {{.Name}}";
      const { text } = await daemon.docker("inspect", `--format=${format}`, ...ids);
      staying = text.split("\n").filter((line) => /^true (exited|dead)/.test(line));
      return staying.length === 0;
    });
  } catch {
    throw new Error(`does not remove itself: ${staying.join()}`);
  }
}

async function listed(daemon: Daemon): Promise<string[]> {
  const text = await daemon.ok("ps", "--all", "--quiet", "--no-trunc");
  return text.split("\n").filter((id) => id !== "");
}

async function noted(site: Site, holds: () => Promise<void>): Promise<void> {
  try {
    await holds();
  } catch (error) {
    site.violate(messageOf(error));
  }
}
