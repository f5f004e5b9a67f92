/** What sockerless may leave on a machine: seen before and after tests, it must be the same. */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { networkInterfaces, tmpdir } from "node:os";
import { basename, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

/** Deleting namespaces and mounts happens behind the answers that tests wait for. */
const settleLimitMs = 60_000;

/** One line for each thing that is there. */
export type Inventory = ReadonlySet<string>;

/** What is there now. */
export function takeInventory(): Inventory {
  return new Set([
    ...processes(),
    ...mounts(),
    ...networkNamespaces(),
    ...interfaces(),
    ...firewall(),
    ...controlGroups(),
    ...filesBelow("/run/sockerless"),
    ...temporaryDirectories(),
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

/** What our tests name their directories in the temporary directory, those in Go by their own names. */
const ownTemporary = new RegExp(
  `^(?:Test[A-Z]|(?:${[
    ...["agent", "authority", "botocore", "bulk-stream", "dockerd", "engine", "lying-agent", "machine"],
    ...["publish", "record-docker-cli", "skl", "sockerless", "start", "state"],
  ].join("|")})-)`,
);

/** Mounts of ours, those in directories of tests, and network namespaces that are held by a mount. */
function mounts(): string[] {
  const found: string[] = [];
  for (const line of read("/proc/self/mountinfo").split("\n")) {
    const path = line.split(" ")[4] ?? "";
    const [below = ""] = path.startsWith(`${tmpdir()}/`) ? path.slice(tmpdir().length + 1).split("/") : [];
    if (line.includes("sockerless") || line.includes(" - nsfs ") || ownTemporary.test(below)) {
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

/** Tables of ours, and what we put into the chains of others. */
function firewall(): string[] {
  if (process.getuid?.() !== 0) {
    return [];
  }
  let rules: string;
  try {
    rules = execFileSync("nft", ["--stateless", "list", "ruleset"], {
      encoding: "utf8",
      maxBuffer: 64 * 1024 * 1024,
      stdio: ["ignore", "pipe", "ignore"],
    });
  } catch {
    return []; // No nft, hence no tables of ours.
  }
  const found: string[] = [];
  let table = "";
  for (const line of rules.split("\n")) {
    if (line.startsWith("table ")) {
      table = line.replace(" {", "");
      if (table.includes("sockerless")) {
        found.push(table);
      }
    } else if (!table.includes("sockerless") && /\bskl[\da-f]{12}\b|sockerless/.test(line)) {
      found.push(`rule of ${table}: ${line.trim()}`);
    }
  }
  return found;
}

/** What tests keep for the next run is in the checkout; what is in here is left. */
function temporaryDirectories(): string[] {
  return namesIn(tmpdir())
    .filter((name) => ownTemporary.test(name))
    .map((name) => `${tmpdir()}/${name}`);
}

function controlGroups(): string[] {
  const found: string[] = [];
  const visit = (directory: string, depth: number): void => {
    for (const entry of entriesIn(directory)) {
      const path = join(directory, entry.name);
      if (!entry.isDirectory()) {
        continue;
      }
      // The runtime makes the group above all containers' with the first one, and it stays.
      if (path.includes("sockerless") && entry.name !== "sockerless") {
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
