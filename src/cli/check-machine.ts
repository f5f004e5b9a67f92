/** Finds what killed processes have left of a state directory's containers in the kernel: mounts and packet rules. */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readdir, readFile, realpath } from "node:fs/promises";
import path from "node:path";

import type { Finding } from "../backends/state/check.ts";
import { commandLineOf } from "../common/command-line.ts";

/**
 * Checks the machine for a state directory whose daemon does not run; containers may.
 *
 * @param repair removes what nobody uses
 */
export async function checkMachine(stateDirectory: string, repair: boolean): Promise<readonly Finding[]> {
  const directory = await realpath(stateDirectory).catch(() => undefined);
  if (process.platform !== "linux" || directory === undefined) {
    return [];
  }
  return [...(await checkMounts(directory, repair)), ...(await checkRules(directory, repair))];
}

/** A line of /proc/<pid>/mountinfo (proc_pid_mountinfo(5)). */
interface Mount {
  /** Major and minor number of the file system. */
  readonly device: string;
  readonly target: string;
}

/** Reads /proc/<pid>/mountinfo. */
export function mountsIn(text: string): readonly Mount[] {
  return text.split("\n").flatMap((line) => {
    const [, , device, , target] = line.split(" ");
    return device === undefined || target === undefined
      ? []
      : [{ device, target: target.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => byte(octal)) }];
  });
}

const byte = (octal: string): string => String.fromCharCode(Number.parseInt(octal, 8));

async function checkMounts(directory: string, repair: boolean): Promise<readonly Finding[]> {
  const container = new RegExp(`^${RegExp.escape(directory)}/containers/([0-9a-f]{64})/(merged|image)$`);
  const mounts = mountsIn(await readFile("/proc/self/mountinfo", "utf8")).filter(({ target }) =>
    container.test(target),
  );
  if (mounts.length === 0) {
    return [];
  }
  const { roots, commands } = await processes();
  const findings: Finding[] = [];
  for (const { device, target } of mounts) {
    const id = container.exec(target)?.[1] ?? "";
    // A shim keeps what it has mounted for a moment after its process; its command line has the container's ID.
    if (!(roots.has(device) || commands.some((command) => command.includes(id)))) {
      findings.push({
        what: path.relative(directory, target),
        fault: "is mounted, and its container has no process",
        outcome: repair
          ? await outcomeOf("unmounted", "umount", target)
          : "the next start of the daemon, or --repair, unmounts it",
      });
    }
  }
  return findings;
}

/** Devices of all processes' root directories, and their command lines; processes that end meanwhile are passed over. */
async function processes(): Promise<{
  readonly roots: ReadonlySet<string>;
  readonly commands: readonly string[];
}> {
  const roots = new Set<string>();
  const commands: string[] = [];
  for (const pid of (await readdir("/proc")).filter((name) => /^\d+$/.test(name))) {
    const read = (name: string): Promise<string> => readFile(`/proc/${pid}/${name}`, "utf8").catch(() => "");
    if (Number(pid) !== process.pid) {
      commands.push(commandLineOf(Number(pid)));
    }
    for (const { device, target } of mountsIn(await read("mountinfo"))) {
      if (target === "/") {
        roots.add(device);
      }
    }
  }
  return { roots, commands };
}

/** The instance's table of packet rules goes with its last bridge (docs/formats.md). */
async function checkRules(directory: string, repair: boolean): Promise<readonly Finding[]> {
  const tag = createHash("sha256").update(directory).digest("hex").slice(0, 8);
  const table = ["table", "inet", `sockerless_${tag}`] as const;
  if ((await run("nft", ["list", ...table])).code !== 0 || (await hasBridge(`sockerless_${tag}`))) {
    return [];
  }
  return [
    {
      what: `nftables ${table.join(" ")}`,
      fault: "has the rules of networks that are not there",
      outcome: repair
        ? await outcomeOf("deleted", "nft", "delete", ...table)
        : "the daemon's next network writes it anew; --repair deletes it",
    },
  ];
}

async function hasBridge(alias: string): Promise<boolean> {
  for (const name of await readdir("/sys/class/net")) {
    const found = await readFile(`/sys/class/net/${name}/ifalias`, "utf8").catch(() => "");
    if (found.trim() === alias) {
      return true;
    }
  }
  return false;
}

async function outcomeOf(done: string, program: string, ...args: readonly string[]): Promise<string> {
  const { code, text } = await run(program, args);
  return code === 0 ? done : `left: ${program} says: ${text.trim()}`;
}

/** Runs a program of the machine; one that is not there ends with 127. */
async function run(
  program: string,
  args: readonly string[],
): Promise<{ readonly code: number; readonly text: string }> {
  const child = spawn(program, args, { stdio: ["ignore", "ignore", "pipe"] });
  let text = "";
  child.stderr.on("data", (chunk: Buffer) => {
    text += chunk.toString();
  });
  try {
    const [code] = (await once(child, "close")) as [number | null];
    return { code: code ?? 128, text };
  } catch (error) {
    return { code: 127, text: String(error) };
  }
}
