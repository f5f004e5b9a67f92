/** A Debian whose first process is systemd, in namespaces of its own: a machine to install packages on. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rmdir, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";

import { type CommandOptions, type CommandResult, runCommand } from "./command.ts";
import { until } from "./until.ts";

/** Packages that a root needs beside those that are tried in it. */
export const systemdPackages: readonly string[] = ["systemd", "systemd-sysv", "dbus"];

/** Services that would change settings of this machine's kernel. */
const masked = [
  "systemd-sysctl.service",
  "systemd-modules-load.service",
  "systemd-binfmt.service",
  "systemd-random-seed.service",
  "proc-sys-fs-binfmt_misc.automount",
];

const controlGroups = "/sys/fs/cgroup";

/** Settings of a {@link SystemdMachine}. */
export interface SystemdMachineOptions {
  /** It has this machine's network; unless said, none but its loopback. */
  readonly sharesNetwork?: boolean;
}

/** A running systemd and what it has started, all gone at the end; the root's directory stays. */
export class SystemdMachine implements AsyncDisposable {
  /** Directory of its root file system, without what is mounted in it. */
  readonly root: string;
  readonly #unshare: ChildProcess;
  readonly #pid: number;
  readonly #groups: readonly string[];

  private constructor(root: string, unshare: ChildProcess, pid: number, groups: readonly string[]) {
    this.root = root;
    this.#unshare = unshare;
    this.#pid = pid;
    this.#groups = groups;
  }

  /** Boots a root in which {@link systemdPackages} are installed, and waits until its units are there. */
  static async boot(
    root: string,
    { sharesNetwork = false }: SystemdMachineOptions = {},
  ): Promise<SystemdMachine> {
    const units = join(root, "etc/systemd/system");
    for (const unit of masked) {
      await runCommand("ln", ["--symbolic", "--force", "/dev/null", join(units, unit)]);
    }
    const groups = await makeGroups(`sockerless-systemd-${basename(root)}-${process.pid}`);
    const namespaces = [
      "--mount",
      "--pid",
      "--uts",
      "--ipc",
      "--cgroup",
      ...(sharesNetwork ? [] : ["--net"]),
    ];
    const unshare = spawn(
      "sh",
      [
        "-c",
        `for group in ${groups.join(" ")}; do echo $$ >$group/cgroup.procs; done
        exec unshare ${namespaces.join(" ")} --fork --kill-child --propagation private sh -ec "$0"`,
        bootScript(root),
      ],
      { stdio: ["ignore", "inherit", "inherit"] },
    );
    const pid = await until(async () => {
      const { pid: parent = 0 } = unshare;
      const children = await readFile(`/proc/${parent}/task/${parent}/children`, "utf8").catch(() => "");
      const first = Number(children.trim().split(" ")[0]);
      const name = first > 0 && (await readFile(`/proc/${first}/comm`, "utf8").catch(() => ""));
      return name === "systemd\n" ? first : undefined;
    });
    const machine = new SystemdMachine(root, unshare, pid, groups);
    try {
      await until(async () => {
        const { text } = await machine.run("systemctl is-system-running");
        return /^(running|degraded)$/.test(text) || undefined;
      });
    } catch (error) {
      await machine[Symbol.asyncDispose]();
      throw error;
    }
    return machine;
  }

  /** Path, on this machine, of a file of that one, with what is mounted there. */
  path(file: string): string {
    return join(`/proc/${this.#pid}/root`, file);
  }

  /** Runs a script of its shell. */
  run(script: string, options?: CommandOptions): Promise<CommandResult> {
    const namespaces = ["--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup"];
    return runCommand(
      "nsenter",
      [`--target=${this.#pid}`, ...namespaces, "env", "-i", ...environment, "sh", "-ec", `cd; ${script}`],
      options,
    );
  }

  /** Runs a script and answers its output; throws where it fails. */
  async ok(script: string, options?: CommandOptions): Promise<string> {
    const { code, text, errorText } = await this.run(script, options);
    if (code !== 0) {
      const { text: journal } = await this.run("journalctl --no-pager --lines=40 --unit='sockerless*'");
      throw new Error(`${script} ended with ${code}: ${text}\n${errorText}\n${journal}`);
    }
    return text;
  }

  /** Runs the docker CLI of this machine on one of its sockets, and answers its output. */
  async docker(socket: string, ...args: string[]): Promise<string> {
    const { PATH } = process.env;
    const { code, text, errorText } = await runCommand("docker", args, {
      env: { PATH, DOCKER_HOST: `unix://${this.path(socket)}`, DOCKER_CONFIG: "/nonexistent" },
    });
    if (code !== 0) {
      throw new Error(`docker ${args.join(" ")} ended with ${code}: ${text}\n${errorText}`);
    }
    return text;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#unshare, "exit");
    process.kill(this.#pid, "SIGKILL"); // And with it all of its PID namespace.
    await ended;
    for (const group of this.#groups) {
      await until(async () => (await removeGroups(group)) || undefined);
    }
  }
}

const environment = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "HOME=/root"];

/** Mounts what a container manager gives to systemd (systemd.io/CONTAINER_INTERFACE), and becomes it. */
const bootScript = (root: string): string => `
  root=${root}
  mount --bind $root $root
  mount -t proc proc $root/proc
  mount -t sysfs sysfs $root/sys
  mount -t tmpfs tmpfs $root/run
  mount -t tmpfs -o mode=755 tmpfs $root/dev
  for device in null zero full random urandom tty loop-control; do
    : >$root/dev/$device
    mount --bind /dev/$device $root/dev/$device
  done
  mkdir $root/dev/pts $root/dev/shm
  mount -t devpts -o newinstance,ptmxmode=0666 devpts $root/dev/pts
  mount -t tmpfs tmpfs $root/dev/shm
  ln -s pts/ptmx $root/dev/ptmx
  ln -s /proc/self/fd $root/dev/fd
  mount -t tmpfs -o mode=755 tmpfs $root/sys/fs/cgroup
  for hierarchy in $(ls ${controlGroups}); do
    mkdir $root/sys/fs/cgroup/$hierarchy
    case $hierarchy in
    unified) mount -t cgroup2 cgroup2 $root/sys/fs/cgroup/$hierarchy ;;
    systemd) mount -t cgroup -o none,name=systemd cgroup $root/sys/fs/cgroup/$hierarchy ;;
    *) mount -t cgroup -o $hierarchy cgroup $root/sys/fs/cgroup/$hierarchy ;;
    esac
  done
  cd $root
  mkdir run/former
  pivot_root . run/former
  umount --lazy /run/former
  rmdir /run/former
  exec env -i container=sockerless-test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --show-status=0`;

/** Makes a control group of a name in each hierarchy, for the namespace of the machine. */
async function makeGroups(name: string): Promise<string[]> {
  const groups: string[] = [];
  for (const hierarchy of await readdir(controlGroups)) {
    const parent = join(controlGroups, hierarchy);
    const group = join(parent, name);
    await mkdir(group);
    groups.push(group);
    for (const setting of ["cpuset.cpus", "cpuset.mems"]) {
      if (existsSync(join(parent, setting))) {
        await writeFile(join(group, setting), await readFile(join(parent, setting), "utf8"));
      }
    }
  }
  return groups;
}

/** @returns whether all of them are gone */
async function removeGroups(group: string): Promise<boolean> {
  for (const entry of await readdir(group, { withFileTypes: true }).catch(() => [])) {
    if (entry.isDirectory()) {
      await removeGroups(join(group, entry.name));
    }
  }
  await rmdir(group).catch(() => {});
  return !existsSync(group);
}
