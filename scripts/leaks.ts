/**
 * Leaks of tests: the machine must look the same before and after them. A process that they started and left
 * is known by a variable of its environment, by any name.
 */
import { spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { networkInterfaces, tmpdir } from "node:os";
import { basename, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

/** Deleting namespaces and mounts happens behind the answers that tests wait for. */
const settleLimitMs = 60_000;

/**
 * Variable in the environment of all that tests start but containers, which have an environment of their own.
 */
const runVariable = "SKL_TEST_RUN";

/** Tests that begin, and what they leave behind. */
export interface TestRun {
  /**
   * Variables to add to the environment of their processes: no other run has the same, though clones are
   * tested side by side.
   */
  readonly env: Readonly<Record<string, string>>;
  /**
   * Finds one line for each thing that is there and was not before and stays, within so many milliseconds.
   */
  findLeaks(limitMs?: number): Promise<string[]>;
}

/**
 * Takes the inventory before any test.
 *
 * @throws where the machine's packet rules cannot be read, though they could be changed
 */
export function beginTestRun(): TestRun {
  const id = randomUUID();
  const before = takeInventory(id);
  return {
    env: { [runVariable]: id },
    findLeaks: (limitMs = settleLimitMs) => findLeaks(id, before, limitMs),
  };
}

function takeInventory(run: string): ReadonlySet<string> {
  return new Set([
    ...processes(run),
    ...loopDevices(),
    ...mounts(),
    ...networkNamespaces(),
    ...interfaces(),
    ...firewall(),
    ...controlGroups(),
    ...filesBelow("/run/sockerless"),
    ...temporaryDirectories(),
  ]);
}

async function findLeaks(run: string, before: ReadonlySet<string>, limitMs: number): Promise<string[]> {
  const deadline = Date.now() + limitMs;
  for (;;) {
    const leaked = [...takeInventory(run)].filter((line) => !before.has(line));
    if (leaked.length === 0 || Date.now() > deadline) {
      return leaked;
    }
    await delay(200);
  }
}

/** The run's own processes, and those of sockerless that are of no run: the agent in a container has lost the variable. */
function processes(run: string): string[] {
  const found: string[] = [];
  for (const pid of namesIn("/proc").filter((name) => /^\d+$/.test(name))) {
    const comm = read(`/proc/${pid}/comm`).trim();
    const program = basename(read(`/proc/${pid}/cmdline`).split("\0")[0] ?? "");
    const isZombie = /^State:\s+Z/m.test(read(`/proc/${pid}/status`));
    const runOfIt = runOf(pid);
    const isOurs =
      runOfIt === undefined ? [comm, program].some((name) => name.startsWith("sockerless")) : runOfIt === run;
    if (!isZombie && isOurs) {
      found.push(`process ${pid} ${program}`);
    }
  }
  return found;
}

/** ID of the tests' run that started a process; undefined: none did, or the process is another user's. */
function runOf(pid: string): string | undefined {
  const entry = read(`/proc/${pid}/environ`)
    .split("\0")
    .find((each) => each.startsWith(`${runVariable}=`));
  return entry?.slice(runVariable.length + 1);
}

/** Names of tests' directories in the temporary directory; tests in Go name theirs after themselves. */
export const ownTemporary = new RegExp(
  `^(?:Test[A-Z]|(?:${[
    ...["agent", "authority", "botocore", "bulk-stream", "dockerd", "engine", "machine"],
    ...["publish", "raw-agent", "record-docker-cli", "skl", "sockerless", "start", "state"],
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

/** Devices whose file is of a volume, or in a directory of a test. */
function loopDevices(): string[] {
  const found: string[] = [];
  for (const name of namesIn("/sys/block")) {
    const file = read(`/sys/block/${name}/loop/backing_file`).trim();
    if (file.includes("sockerless") || file.split("/").some((part) => ownTemporary.test(part))) {
      found.push(`loop device ${name} ${file}`);
    }
  }
  return found;
}

/**
 * Tables of ours, and what we put into the chains of others. That the kernel forwards packets is not looked at: the
 * product says that it stays so.
 */
function firewall(): string[] {
  if (!mayChangeNetwork()) {
    return [];
  }
  const { error, status, stdout, stderr } = spawnSync("nft", ["--stateless", "list", "ruleset"], {
    encoding: "utf8",
    maxBuffer: 64 * 1024 * 1024,
  });
  if (error !== undefined && "code" in error && error.code === "ENOENT") {
    return []; // Without nft there are no tables of ours.
  }
  if (error !== undefined || status !== 0) {
    throw new Error(`nft does not say what packet rules there are: ${error?.message ?? stderr}`);
  }
  return ownRules(stdout);
}

/** True if this process has CAP_NET_ADMIN. */
function mayChangeNetwork(): boolean {
  const effective = /^CapEff:\s+([\da-f]+)$/m.exec(read("/proc/self/status"))?.[1] ?? "0";
  return ((BigInt(`0x${effective}`) >> 12n) & 1n) === 1n;
}

function ownRules(rules: string): string[] {
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

/** Lists left-over directories of tests: what tests keep for the next run is in the checkout. */
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
