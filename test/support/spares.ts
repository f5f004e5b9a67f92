/** Containers that a daemon has prepared ahead, as its log at the level `debug` tells of them. */
import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";

import type { Daemon } from "./daemon.ts";
import { until, untilTrue } from "./until.ts";

/** Looks for a spare behind one container before there is a second. */
const looksForOne = 50;

/** Arguments of a daemon whose spares can be seen. */
export const tellingOfSpares = ["--log-level", "debug", "--log-format", "json"];

/** A script that prints how long the machine had run when process 1 of its container began. */
export const beganAt = "cut -d ' ' -f 22 /proc/1/stat";

/** How long the machine has run: hundredths of a second, as {@link beganAt} has them. */
export function machineTicks(): number {
  return Math.floor(Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]) * 100);
}

/** Whether a process was there before a moment. @param printed the output of {@link beganAt} */
export function isOlder(printed: string, moment: number): boolean {
  const began = Number(printed);
  if (printed === "" || !Number.isInteger(began)) {
    throw new Error(`this is no time of a start: ${JSON.stringify(printed)}`);
  }
  return began < moment;
}

/** Spares that have been prepared, by ID, in order; some may have been taken or have gone since. */
export function preparedSpares(daemon: Daemon): string[] {
  return told(daemon, "a spare container waits");
}

/** Spares that have become a container, by ID. */
export function takenSpares(daemon: Daemon): string[] {
  return told(daemon, "a container takes the spare one that is like it");
}

/** Spares that were ended since others took their place, by ID, once nothing of them is left. */
export function displacedSpares(daemon: Daemon): string[] {
  return told(daemon, "a spare container has given way to another");
}

/**
 * Has a spare wait: two containers like it, or with one that waits already one, come and go. It waits for half a minute.
 *
 * @param flags of `docker run`
 * @returns its ID
 */
export async function spareWaits(daemon: Daemon, ...flags: readonly string[]): Promise<string> {
  return await spareOf(daemon, "busybox", ...flags);
}

/** As {@link spareWaits}, of another image. */
export async function spareOf(daemon: Daemon, image: string, ...flags: readonly string[]): Promise<string> {
  const begun = () => told(daemon, "a spare container is prepared");
  await untilTrue(() => preparedSpares(daemon).length === begun().length); // Else one of these could be another's.
  const known = begun().length;
  const spare = (): string | undefined => {
    const taken = takenSpares(daemon);
    return preparedSpares(daemon)
      .slice(known)
      .find((id) => !taken.includes(id));
  };
  await daemon.ok("run", "--rm", ...flags, image, "true");
  for (let looks = 0; looks < looksForOne && begun().length === known; looks++) {
    await delay(10);
  }
  if (begun().length === known) {
    await daemon.ok("run", "--rm", ...flags, image, "true");
  }
  return await until(spare);
}

function told(daemon: Daemon, message: string): string[] {
  return daemon.output
    .split("\n")
    .slice(0, -1) // The last line is not whole yet.
    .filter((line) => line.includes(`"${message}"`))
    .map((line) => (JSON.parse(line) as { readonly container: string }).container);
}
