/** Checks of this machine, for the local backend. */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, statfsSync } from "node:fs";
import { connect, createServer } from "node:net";
import { dirname, join } from "node:path";

import type { CommonConfig } from "../../common/config/load.ts";
import { errnoOf } from "../../common/errors.ts";
import { type DoctorCheck, ok, type Result, unknown, warning, wrong } from "../../common/finding.ts";
import { parseTcpAddress } from "../../common/listen.ts";

/** The machine as the checks see it; tests give them another root. */
export interface Machine {
  /** Directory that `proc`, `sys` and `etc` are read below. */
  readonly root: string;
  readonly uid: number;
  /** Directories with programs, as in PATH. */
  readonly path: string;
  readonly nowMs: number;
}

type Settings = Pick<CommonConfig, "hosts" | "runtime" | "stateDir">;

/** `openat2`, by which files of images are reached, is of this version. */
const leastKernel = [5, 6] as const;

const leastDiskBytes = 1024 ** 3;
const comfortableDiskBytes = 10 * 1024 ** 3;

/** A clock further off than this is refused by registries and clouds. */
const clockToleranceMs = 5 * 60_000;

const controllers = ["cpu", "memory", "pids"] as const;

/** The checks; each reads what it needs itself. */
export function machineChecks(
  config: Settings,
  machine: Machine = {
    root: "/",
    uid: process.geteuid?.() ?? -1,
    path: process.env["PATH"] ?? "",
    nowMs: Date.now(),
  },
): readonly DoctorCheck[] {
  const checks: readonly (readonly [
    string,
    (machine: Machine, config: Settings) => Result | Promise<Result>,
  ])[] = [
    ["user", checkUser],
    ["kernel", checkKernel],
    ["overlayfs", checkOverlay],
    ["cgroups", checkCgroups],
    ["runtime", checkRuntime],
    ["nftables", checkNftables],
    ["clock", checkClock],
    ["disk", checkDisk],
    ["addresses", checkAddresses],
  ];
  return checks.map(([check, look]) => ({ check, look: () => look(machine, config) }));
}

function checkUser({ uid }: Machine): Result {
  return uid === 0
    ? ok("root")
    : wrong("the local backend makes namespaces, mounts and network interfaces: run it as root");
}

function checkKernel({ root }: Machine): Result {
  const release = readFileSync(join(root, "proc/sys/kernel/osrelease"), "utf8").trim();
  const [major = 0, minor = 0] = release.split(".").map((part) => Number.parseInt(part, 10));
  const [leastMajor, leastMinor] = leastKernel;
  return major > leastMajor || (major === leastMajor && minor >= leastMinor)
    ? ok(`Linux ${release}`)
    : wrong(`Linux ${release} is too old: ${leastKernel.join(".")} is the least that works`);
}

function checkOverlay({ root }: Machine): Result {
  const known = readFileSync(join(root, "proc/filesystems"), "utf8");
  return /^\S*\s+overlay$/m.test(known)
    ? ok("")
    : wrong("the kernel has not loaded overlayfs: run `modprobe overlay`");
}

function checkCgroups({ root }: Machine): Result {
  const unified = join(root, "sys/fs/cgroup/cgroup.controllers");
  const found = existsSync(unified)
    ? readFileSync(unified, "utf8").trim().split(" ")
    : controllers.filter((name) => existsSync(join(root, "sys/fs/cgroup", name)));
  const missing = controllers.filter((name) => !found.includes(name));
  const version = existsSync(unified) ? "v2" : "v1";
  return missing.length === 0
    ? ok(version)
    : warning(`${version} without ${missing.join(", ")}: limits on these are not enforced`);
}

function checkRuntime({ path }: Machine, { runtime }: Settings): Result {
  const names = runtime === undefined ? ["runc", "crun"] : [runtime];
  const failures: string[] = [];
  for (const name of names) {
    const { status, stdout, error } = spawnSync(name, ["--version"], {
      encoding: "utf8",
      env: { PATH: path },
    });
    if (status === 0) {
      return ok(stdout.split("\n", 1)[0] ?? name);
    }
    failures.push(
      `${name}: ${error === undefined ? `exit code ${status}` : (errnoOf(error) ?? error.message)}`,
    );
  }
  return wrong(`no OCI runtime works (${failures.join("; ")}): install runc`);
}

/** Tells by the kernel's modules, or by its symbols where it has none; a module that is loaded on demand is not there yet. */
function checkNftables({ root }: Machine): Result {
  const modules = join(root, "proc/modules");
  if (!existsSync(modules)) {
    return / nf_tables_newtable\b/.test(readFileSync(join(root, "proc/kallsyms"), "utf8"))
      ? ok("built in")
      : wrong("the kernel has no nf_tables, and takes no modules: networks and published ports need it");
  }
  const isThere =
    existsSync(join(root, "sys/module/nf_tables")) || /\bnf_tables\b/.test(readFileSync(modules, "utf8"));
  return isThere
    ? ok("")
    : unknown("the kernel has not loaded nf_tables yet: `modprobe nf_tables` tells whether it can");
}

function checkClock({ root, nowMs }: Machine): Result {
  const told = join(root, "sys/class/rtc/rtc0/since_epoch");
  if (!existsSync(told)) {
    return unknown("this machine shows no hardware clock that its own could be compared with");
  }
  const hardware = Number(readFileSync(told, "utf8")) * 1000;
  const offMs = Math.abs(hardware - nowMs);
  return offMs <= clockToleranceMs
    ? ok("")
    : wrong(
        `the system's clock and the hardware's are ${Math.round(offMs / 1000)} s apart: certificates and clouds will refuse; have a time service set them`,
      );
}

function checkDisk(_: Machine, { stateDir }: Settings): Result {
  let directory = stateDir;
  while (!existsSync(directory) && dirname(directory) !== directory) {
    directory = dirname(directory);
  }
  const { bavail, bsize, type } = statfsSync(directory);
  const free = bavail * bsize;
  const text = `${(free / 1024 ** 3).toFixed(1)} GiB free for ${stateDir}`;
  if (type === overlayMagic) {
    return wrong(`${stateDir} is on an overlay, which takes no other overlay: name another state_dir`);
  }
  if (free < leastDiskBytes) {
    return wrong(`${text}: images will not fit`);
  }
  return (free < comfortableDiskBytes ? warning : ok)(text);
}

/** OVERLAYFS_SUPER_MAGIC of linux/magic.h. */
const overlayMagic = 0x79_4c_76_30;

async function checkAddresses(_: Machine, { hosts }: Settings): Promise<Result> {
  const taken: string[] = [];
  for (const host of hosts) {
    if (await isTaken(host)) {
      taken.push(host);
    }
  }
  return taken.length === 0
    ? ok(hosts.join(", "))
    : warning(`${taken.join(", ")}: another process serves it, maybe a sockerless that runs`);
}

/** @throws Node's error where an address cannot be used for another reason */
async function isTaken(host: string): Promise<boolean> {
  const outcome = Promise.withResolvers<boolean>();
  if (host.startsWith("unix://")) {
    const probe = connect(host.slice("unix://".length));
    probe.once("connect", () => outcome.resolve(true)).once("error", () => outcome.resolve(false));
    return await outcome.promise.finally(() => probe.destroy());
  }
  const { host: name, port } = parseTcpAddress(host);
  const listener = createServer();
  listener.once("error", (error) =>
    errnoOf(error) === "EADDRINUSE" ? outcome.resolve(true) : outcome.reject(error),
  );
  listener.listen({ port, ...(name === "" ? {} : { host: name }) }, () => outcome.resolve(false));
  return await outcome.promise.finally(() => listener.close());
}
