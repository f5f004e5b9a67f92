/**
 * Leaks of tests: what they have made and left. It is known by what made it, never by what the machine has more than
 * before, so that neither another daemon nor another clone's run is taken for it: processes by a variable of their
 * environment, files by the run's directory for temporary ones, all else by names that the tests have recorded in that
 * directory (test/support/made.ts, agent/host/process_test.go).
 */
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";

/**
 * Variable in the environment of all that tests start but containers, which have an environment of their own.
 */
export const runVariable = "SKL_TEST_RUN";

/** Directory, in that of the run, with a file for each name that a test has given to something outside of it. */
export const recordName = ".made";

/** One thing that tests have made, and that is there. */
export interface Leftover {
  /** Line that tells a user of it. */
  readonly text: string;
  /** True for a process or a mount: while there is one, nothing else can be deleted, or must be, as it may be a user's. */
  readonly holds: boolean;
  /** Begins to end or delete it. Where that fails it is found again. */
  readonly remove: () => void;
}

/**
 * Finds what tests have made and what is there now.
 *
 * @param run value of {@link runVariable} in their processes
 * @param directory their temporary directory
 * @throws where the machine's packet rules cannot be read, though they could be changed
 */
export function findLeftovers(run: string, directory: string): Leftover[] {
  const isNamed = recordedNames(join(directory, recordName));
  const isOurs: Judge = (text) => text.includes(`${directory}/`) || isNamed(text);
  return [
    ...processes(run, isOurs),
    ...mounts(isOurs),
    ...loopDevices(isOurs),
    ...networkNamespaces(isOurs),
    ...interfaces(isOurs),
    ...firewall(isOurs),
    ...controlGroups(isOurs),
    ...filesOfInstances(isOurs),
    ...temporaryDirectories(directory),
  ];
}

/** True for a text that names something of the run. */
type Judge = (text: string) => boolean;

/** Looks for the names that the tests have recorded, as whole words. */
function recordedNames(record: string): Judge {
  const words = namesIn(record).flatMap((name) =>
    isInstance.test(name) ? namesOf(name) : [RegExp.escape(name)],
  );
  if (words.length === 0) {
    return () => false;
  }
  const named = new RegExp(`(?<![\\da-zA-Z])(?:${words.join("|")})(?![\\da-zA-Z])`);
  return (text) => named.test(text);
}

/** The digest by which an instance of sockerless is recorded: that of its state directory's path. */
const isInstance = /^[\da-f]{12}$/;

/** Patterns of what an instance gives names to: its run directory, all that has its tag, and its containers' interfaces. */
function namesOf(instance: string): string[] {
  return [instance, instance.slice(0, 8), `sk${instance.slice(0, 4)}[\\da-f]{9}`];
}

/** Processes of the run; one in a container has lost the variable, its group or its command line has a name of the run. */
function processes(run: string, isOurs: Judge): Leftover[] {
  const found: Leftover[] = [];
  for (const pid of namesIn("/proc").filter((name) => /^\d+$/.test(name))) {
    const commandLine = read(`/proc/${pid}/cmdline`);
    const isZombie = /^State:\s+Z/m.test(read(`/proc/${pid}/status`));
    const runOfIt = runOf(pid);
    const isOfRun =
      runOfIt === undefined ? isOurs(`${commandLine}\0${read(`/proc/${pid}/cgroup`)}`) : runOfIt === run;
    if (!isZombie && isOfRun) {
      found.push({
        text: `process ${pid} ${basename(commandLine.split("\0")[0] ?? "")}`,
        holds: true,
        remove: attempt(() => {
          process.kill(Number(pid), "SIGKILL");
          thaw(pid);
        }),
      });
    }
  }
  return found;
}

/** Lets a process end that was paused by a group of version 1; one of version 2 lets it by itself. */
function thaw(pid: string): void {
  const group = /^\d+:freezer:(.*)$/m.exec(read(`/proc/${pid}/cgroup`))?.[1];
  if (group !== undefined && group !== "/") {
    writeFileSync(`/sys/fs/cgroup/freezer${group}/freezer.state`, "THAWED");
  }
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

/** Mounts at a path of the run, or of one of its files at any other. */
function mounts(isOurs: Judge): Leftover[] {
  return read("/proc/self/mountinfo")
    .split("\n")
    .filter(isOurs)
    .map((line) => {
      const path = line.split(" ")[4] ?? "";
      const unescaped = path.replaceAll(/\\(\d{3})/g, (_, octal: string) =>
        String.fromCharCode(Number.parseInt(octal, 8)),
      );
      return { text: `mount ${path}`, holds: true, remove: command("umount", "--lazy", unescaped) };
    });
}

function networkNamespaces(isOurs: Judge): Leftover[] {
  return namesIn("/run/netns")
    .filter(isOurs)
    .map((name) => leftover(`network namespace ${name}`, command("ip", "netns", "delete", name)));
}

/** Interfaces by their names, and bridges by their aliases. */
function interfaces(isOurs: Judge): Leftover[] {
  return namesIn("/sys/class/net")
    .filter((name) => isOurs(`${name} ${read(`/sys/class/net/${name}/ifalias`)}`))
    .map((name) => leftover(`network interface ${name}`, command("ip", "link", "delete", name)));
}

function loopDevices(isOurs: Judge): Leftover[] {
  return namesIn("/sys/block").flatMap((name) => {
    const file = read(`/sys/block/${name}/loop/backing_file`).trim();
    const text = `loop device ${name} ${file}`;
    return isOurs(file) ? [leftover(text, command("losetup", "--detach", `/dev/${name}`))] : [];
  });
}

/**
 * Tables of ours, and what we put into the chains of others. That the kernel forwards packets is not looked at: the
 * product says that it stays so.
 */
function firewall(isOurs: Judge): Leftover[] {
  const found: Leftover[] = [];
  let table = "";
  let chain = "";
  for (const numbered of packetRules().split("\n")) {
    const [line = "", handle = ""] = numbered.split(" # handle ");
    if (line.startsWith("table ")) {
      table = line.replace("table ", "").replace(" {", "");
      if (isOurs(table)) {
        found.push(leftover(`table ${table}`, command("nft", `delete table ${table}`)));
      }
    } else if (/^\s*chain /.test(line)) {
      chain = line.trim().split(" ")[1] ?? "";
    } else if (!isOurs(table) && isOurs(line)) {
      const remove = command("nft", `delete rule ${table} ${chain} handle ${handle}`);
      found.push(leftover(`rule of table ${table}: ${line.trim()}`, remove));
    }
  }
  return found;
}

/** Rules of all tables as text, each with its handle. @throws Error: they cannot be read, though they could be changed */
export function packetRules(): string {
  if (!mayChangeNetwork()) {
    return "";
  }
  const { error, status, stdout, stderr } = spawnSync("nft", ["--stateless", "--handle", "list", "ruleset"], {
    encoding: "utf8",
    maxBuffer: 64 * 1024 * 1024,
  });
  if (error !== undefined && "code" in error && error.code === "ENOENT") {
    return ""; // Without nft there are no tables of ours.
  }
  if (error !== undefined || status !== 0) {
    throw new Error(`nft does not say what packet rules there are: ${error?.message ?? stderr}`);
  }
  return stdout;
}

/** True if this process has CAP_NET_ADMIN. */
function mayChangeNetwork(): boolean {
  const effective = /^CapEff:\s+([\da-f]+)$/m.exec(read("/proc/self/status"))?.[1] ?? "0";
  return ((BigInt(`0x${effective}`) >> 12n) & 1n) === 1n;
}

/** Lists left-over directories of tests: what tests keep for the next run is in the checkout, and programs have caches. */
function temporaryDirectories(directory: string): Leftover[] {
  return namesIn(directory)
    .filter((name) => ownTemporary.test(name))
    .map((name) => join(directory, name))
    .map((path) =>
      leftover(
        path,
        attempt(() => rmSync(path, { recursive: true, force: true })),
      ),
    );
}

function controlGroups(isOurs: Judge): Leftover[] {
  const found: Leftover[] = [];
  const visit = (directory: string, depth: number): void => {
    for (const entry of entriesIn(directory).filter((each) => each.isDirectory())) {
      const path = join(directory, entry.name);
      if (isOurs(path)) {
        found.push({ text: `control group ${path}`, holds: false, remove: () => removeGroup(path) });
      }
      if (depth > 0) {
        visit(path, depth - 1);
      }
    }
  };
  visit("/sys/fs/cgroup", 3);
  return found;
}

/** Deletes a group and those in it. */
function removeGroup(path: string): void {
  for (const entry of entriesIn(path).filter((each) => each.isDirectory())) {
    removeGroup(join(path, entry.name));
  }
  attempt(() => rmdirSync(path))();
}

/** Files of the directories in which instances note what they run. */
function filesOfInstances(isOurs: Judge): Leftover[] {
  return filesBelow("/run/sockerless")
    .filter(isOurs)
    .map((path) =>
      leftover(
        `file ${path}`,
        attempt(() => {
          rmSync(path, { force: true });
          rmdirSync(dirname(path));
        }),
      ),
    );
}

function filesBelow(directory: string): string[] {
  return entriesIn(directory).flatMap((entry) => {
    const path = join(directory, entry.name);
    return entry.isDirectory() ? filesBelow(path) : [path];
  });
}

function leftover(text: string, remove: () => void): Leftover {
  return { text, holds: false, remove };
}

/** Does something that may have become impossible, or unnecessary. */
function attempt(work: () => unknown): () => void {
  return () => {
    try {
      work();
    } catch {} // It is found again.
  };
}

function command(program: string, ...args: readonly string[]): () => void {
  return () => {
    spawnSync(program, args, { stdio: "ignore" });
  };
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
