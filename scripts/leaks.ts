/** What sockerless may leave on a machine: seen before and after tests, it must be the same. */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { basename, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

/** Deleting namespaces and mounts happens behind the answers that tests wait for. */
const settleLimitMs = 15_000;

/** One line for each thing that is there. */
export type Inventory = ReadonlySet<string>;

/** What is there now. */
export function takeInventory(): Inventory {
  return new Set([
    ...processes(),
    ...mounts(),
    ...networkNamespaces(),
    ...interfaces(),
    ...firewallTables(),
    ...controlGroups(),
    ...filesBelow("/run/sockerless"),
  ]);
}

/** What is there and was not before, once that has settled; in milliseconds, how long it may take to. */
export async function findLeaks(before: Inventory, limitMs = settleLimitMs): Promise<string[]> {
  const deadline = Date.now() + limitMs;
  for (;;) {
    const leaked = [...takeInventory()].filter((line) => !before.has(line));
    if (leaked.length === 0 || Date.now() > deadline) {
      return leaked;
    }
    await delay(200);
  }
}

function processes(): string[] {
  const found: string[] = [];
  for (const pid of namesIn("/proc").filter((name) => /^\d+$/.test(name))) {
    const comm = read(`/proc/${pid}/comm`).trim();
    const program = basename(read(`/proc/${pid}/cmdline`).split("\0")[0] ?? "");
    const isZombie = /^State:\s+Z/m.test(read(`/proc/${pid}/status`));
    if (!isZombie && [comm, program].some((name) => name.startsWith("sockerless"))) {
      found.push(`process ${pid} ${program}`);
    }
  }
  return found;
}

/** Mounts of ours, and network namespaces that are held by a mount. */
function mounts(): string[] {
  const found: string[] = [];
  for (const line of read("/proc/self/mountinfo").split("\n")) {
    const path = line.split(" ")[4] ?? "";
    if (line.includes("sockerless") || line.includes(" - nsfs ")) {
      found.push(`mount ${path}`);
    }
  }
  return found;
}

function networkNamespaces(): string[] {
  return namesIn("/run/netns").map((name) => `network namespace ${name}`);
}

function interfaces(): string[] {
  const present = existsSync("/sys/class/net") ? namesIn("/sys/class/net") : Object.keys(networkInterfaces());
  return present.map((name) => `network interface ${name}`);
}

function firewallTables(): string[] {
  if (process.getuid?.() !== 0) {
    return [];
  }
  try {
    const output = execFileSync("nft", ["list", "tables"], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
    return output.split("\n").filter((line) => line.includes("sockerless"));
  } catch {
    return []; // No nft, hence no tables of ours.
  }
}

function controlGroups(): string[] {
  const found: string[] = [];
  const visit = (directory: string, depth: number): void => {
    for (const entry of entriesIn(directory)) {
      const path = join(directory, entry.name);
      if (!entry.isDirectory()) {
        continue;
      }
      if (entry.name.includes("sockerless")) {
        found.push(`control group ${path}`);
      }
      if (depth > 0) {
        visit(path, depth - 1);
      }
    }
  };
  visit("/sys/fs/cgroup", 3);
  return found;
}

function filesBelow(directory: string): string[] {
  return entriesIn(directory).flatMap((entry) => {
    const path = join(directory, entry.name);
    return entry.isDirectory() ? filesBelow(path) : [`file ${path}`];
  });
}

function namesIn(directory: string): string[] {
  return entriesIn(directory).map((entry) => entry.name);
}

function entriesIn(directory: string) {
  try {
    return readdirSync(directory, { withFileTypes: true });
  } catch {
    return []; // It is not there, or has just gone.
  }
}

function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}
