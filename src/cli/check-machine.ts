/** Finds what killed processes have left of a state directory's containers in the kernel: mounts and packet rules. */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { readdir, readFile, realpath } from "node:fs/promises";
import path from "node:path";

import type { Finding } from "../backends/state/check.ts";
import { commandLineOf } from "../common/command-line.ts";
import { parseMountInfo } from "../common/mount-info.ts";

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

async function checkMounts(directory: string, repair: boolean): Promise<readonly Finding[]> {
  const container = new RegExp(`^${RegExp.escape(directory)}/containers/([0-9a-f]{64})/(merged|image)$`);
  const mounts = parseMountInfo(await readFile("/proc/self/mountinfo", "utf8")).filter(({ mountPoint }) =>
    container.test(mountPoint),
  );
  if (mounts.length === 0) {
    return [];
  }
  const { roots, commands } = await processes();
  const findings: Finding[] = [];
  for (const { device, mountPoint } of mounts) {
    const id = container.exec(mountPoint)?.[1] ?? "";
    // A shim keeps what it has mounted for a moment after its process; its command line has the container's ID.
    if (!(roots.has(device) || commands.some((command) => command.includes(id)))) {
      findings.push({
        what: path.relative(directory, mountPoint),
        fault: "is mounted, and its container has no process",
        outcome: repair
          ? await outcomeOf("unmounted", "umount", mountPoint)
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
    for (const { device, mountPoint } of parseMountInfo(await read("mountinfo"))) {
      if (mountPoint === "/") {
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
