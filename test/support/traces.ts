/** Traces of containers on the machine, in the kernel and on the disk. */
import { createHash } from "node:crypto";
import { existsSync, globSync, readdirSync, readFileSync } from "node:fs";
import { runCommand } from "./command.ts";
import type { Daemon } from "./daemon.ts";
import { processesBelow } from "./processes.ts";
import { until } from "./until.ts";

/** Everything that a container has on the machine, each in a word or two; a stopped one has its directory. */
export function tracesOf(daemon: Daemon, containerId: string): string[] {
  const short = containerId.slice(0, 12);
  return [
    ...lines("/proc/self/mountinfo").filter(
      (line) => line.includes(containerId) || line.includes(`netns/${short}`),
    ),
    ...processesBelow(`${daemon.stateDir}/containers/${containerId}`),
    ...globSync([`/sys/fs/cgroup/sockerless/${containerId}`, `/sys/fs/cgroup/*/sockerless/${containerId}`]),
    ...[
      `${daemon.runDir}/netns/${short}`,
      `${daemon.runDir}/c/${containerId.slice(0, 16)}`,
      `${daemon.runDir}/runc/${containerId}`,
      `${daemon.stateDir}/containers/${containerId}`,
    ].filter(existsSync),
  ];
}

/** Waits until nothing of a container is left but its directory, or not even that. */
export async function untilOnly(
  daemon: Daemon,
  containerId: string,
  expected: readonly string[],
): Promise<void> {
  let left: string[] = [];
  try {
    await until(() => {
      left = tracesOf(daemon, containerId).filter((trace) => !expected.includes(trace));
      return left.length === 0 || undefined;
    });
  } catch {
    throw new Error(`left of container ${containerId}:\n${left.join("\n")}`);
  }
}

/** Directories of containers on the disk, by their IDs. */
export function containersOnDisk(daemon: Daemon): string[] {
  return readdirSync(`${daemon.stateDir}/containers`).toSorted();
}

/** The machine's ends of the instance's veth pairs. */
export function interfacesOf(daemon: Daemon): string[] {
  const tag = instanceTag(daemon);
  return readdirSync("/sys/class/net").filter((name) => name.startsWith(`sk${tag.slice(0, 4)}`));
}

/** The bridges of the instance's networks, and those that somebody was killed before he could mark. */
export async function bridgesOf(daemon: Daemon): Promise<string[]> {
  const { text } = await runCommand("ip", ["-json", "-details", "link", "show", "type", "bridge"]);
  const bridges = JSON.parse(text === "" ? "[]" : text) as { ifname: string; ifalias?: string }[];
  const mark = `sockerless_${instanceTag(daemon)}`;
  return bridges
    .filter(
      ({ ifname, ifalias }) => ifalias === mark || (ifalias === undefined && /^skl[\da-f]{12}$/.test(ifname)),
    )
    .map(({ ifname }) => ifname);
}

/**
 * Lists what the instance keeps of images and volumes: blobs, those half taken in, unpacked layers, volumes.
 */
export function contentOf(daemon: Daemon): string[] {
  return ["blobs/sha256", "blobs/ingest", "layers", "volumes"]
    .flatMap((directory) =>
      readdirSync(`${daemon.stateDir}/${directory}`).map((name) => `${directory}/${name}`),
    )
    .toSorted();
}

/** The mounts of the instance's volumes, the loop devices of their images, and who is noted to have them. */
export async function mountsOf(daemon: Daemon): Promise<string[]> {
  const volumes = `${daemon.stateDir}/volumes/`;
  const { text } = await runCommand("losetup", ["--noheadings", "--output", "NAME,BACK-FILE"]);
  return [...lines("/proc/self/mountinfo"), ...text.split("\n")]
    .filter((line) => line.includes(volumes))
    .concat(readdirSync(`${daemon.runDir}/volumes`));
}

/** The instance's nftables rules, and the elements of their sets: a line each, sorted. */
export async function rulesOf(daemon: Daemon): Promise<string[]> {
  const { text, code, errorText } = await runCommand("nft", ["--stateless", "list", "ruleset"]);
  if (code !== 0) {
    throw new Error(`nft: ${errorText}`);
  }
  const tables = text.split(/^(?=table )/m);
  const own = tables.filter((table) => table.startsWith(`table inet sockerless_${instanceTag(daemon)} `));
  return own
    .flatMap((table) => table.split(/\n|(?<=,)\s/).map((line) => line.trim().replace(/,$/, "")))
    .filter((line) => line !== "")
    .toSorted();
}

function instanceTag(daemon: Daemon): string {
  return createHash("sha256").update(daemon.stateDir).digest("hex").slice(0, 8);
}

function lines(path: string): string[] {
  return readFileSync(path, "utf8").split("\n");
}
