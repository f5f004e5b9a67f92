/** A real dockerd on paths of its own, to compare with: that of Debian's package `docker.io`, or another. */
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";

import { removeCgroup } from "../simulators/common/machine/cgroups.ts";
import { type CommandOptions, type CommandResult, runCommand } from "./command.ts";
import { busyboxArchiveFile } from "./images.ts";
import { recordName } from "./made.ts";
import { untilTrue } from "./until.ts";

/** Settings of a {@link Dockerd}. */
export interface DockerdOptions {
  /** Makes it a bridge with that address, `10.9.0.1/16`: its own would be left behind, and be another's. */
  readonly address?: string;
  /** Directory of another dockerd and its proxy. */
  readonly programs?: string;
  /** Has it write iptables' rules, as an installed one does: in a network that goes with this process. */
  readonly isFiltering?: boolean;
}

export class Dockerd implements AsyncDisposable {
  readonly directory: string;
  readonly #process: ChildProcess;
  /** Its process, what it wrote, and its bridge. */
  readonly #resources: AsyncDisposableStack;
  #output = "";

  private constructor(directory: string, child: ChildProcess, resources: AsyncDisposableStack) {
    this.directory = directory;
    this.#process = child;
    this.#resources = resources;
    const read = (chunk: Buffer): void => {
      this.#output = (this.#output + chunk.toString()).slice(-20_000);
    };
    child.stdout?.on("data", read);
    child.stderr?.on("data", read);
  }

  /** Starts one that has busybox. */
  static async startWithBusybox(options?: DockerdOptions): Promise<Dockerd> {
    await using resources = new AsyncDisposableStack();
    const daemon = resources.use(await Dockerd.start(options));
    await daemon.ok("load", "--input", await busyboxArchiveFile());
    resources.move();
    return daemon;
  }

  /** Starts one without networks of its own. One that fails leaves nothing. */
  static async start({ address, programs, isFiltering = false }: DockerdOptions = {}): Promise<Dockerd> {
    await using resources = new AsyncDisposableStack();
    const bridge = address === undefined ? undefined : await makeBridge(address, resources);
    const directory = await mkdtemp(join(tmpdir(), "dockerd-"));
    resources.defer(() => rm(directory, { recursive: true, force: true }));
    resources.defer(() => unmountBelow(directory));
    const cgroup = `/${recordName(basename(directory))}`;
    resources.defer(() => removeCgroup(cgroup));
    const path = process.env["PATH"] ?? "";
    const child = spawn(
      programs === undefined ? "dockerd" : join(programs, "dockerd"),
      [
        `--host=unix://${directory}/docker.sock`,
        `--data-root=${directory}/data`,
        `--exec-root=${directory}/exec`,
        `--pidfile=${directory}/pid`,
        `--iptables=${isFiltering}`,
        "--ip6tables=false",
        "--exec-opt=native.cgroupdriver=cgroupfs",
        `--cgroup-parent=${cgroup}`,
        `--bridge=${bridge ?? "none"}`,
      ],
      {
        stdio: ["ignore", "pipe", "pipe"],
        env: {
          ...process.env,
          PATH: programs === undefined ? path : `${programs}:${path}`,
          TMPDIR: directory, // containerd writes its stacks there, where dockerd loses patience with it.
        },
      },
    );
    let failure: Error | undefined;
    child.once("error", (error) => {
      failure = error;
    });
    resources.defer(() => endOf(child));
    const owned = new AsyncDisposableStack();
    const daemon = new Dockerd(directory, child, owned);
    await untilTrue(async () => {
      if (failure !== undefined) {
        throw failure;
      }
      const end = child.exitCode ?? child.signalCode;
      if (end !== null) {
        throw new Error(`dockerd ended with ${end}:\n${daemon.#output}`);
      }
      return (await daemon.docker("version")).code === 0;
    });
    owned.use(resources.move());
    return daemon;
  }

  get socket(): string {
    return join(this.directory, "docker.sock");
  }

  /** Process ID of dockerd, whose descendants are all of its processes but the containers' shims. */
  get pid(): number {
    const { pid } = this.#process;
    if (pid === undefined) {
      throw new Error("dockerd does not run");
    }
    return pid;
  }

  docker(...args: string[]): Promise<CommandResult> {
    return this.dockerWith({}, ...args);
  }

  dockerWith(options: CommandOptions, ...args: string[]): Promise<CommandResult> {
    const env = {
      ...process.env,
      DOCKER_HOST: `unix://${this.socket}`,
      DOCKER_CONFIG: join(this.directory, "config"),
    };
    return runCommand("docker", args, { env, ...options });
  }

  /** Runs the docker CLI and answers its output; throws where it fails. */
  async ok(...args: string[]): Promise<string> {
    const result = await this.docker(...args);
    if (result.code !== 0) {
      throw new Error(`docker ${args.join(" ")} ended with ${result.code}: ${result.errorText}`);
    }
    return result.text;
  }

  /** Removes its containers that run, ends it, and deletes what it wrote: the others are but files. */
  async [Symbol.asyncDispose](): Promise<void> {
    const containers = (await this.docker("ps", "-q")).text.split("\n").filter((id) => id !== "");
    if (containers.length > 0) {
      await this.docker("rm", "-f", ...containers);
    }
    await this.#resources.disposeAsync();
  }
}

/** Ends a process, if it runs. */
async function endOf(child: ChildProcess): Promise<void> {
  if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) {
    const ended = once(child, "exit");
    child.kill("SIGTERM");
    await ended;
  }
}

/** Makes a bridge. @param resources they delete it @returns its name */
async function makeBridge(address: string, resources: AsyncDisposableStack): Promise<string> {
  const name = recordName(`dockerd${randomBytes(4).toString("hex")}`);
  await ip("link", "add", name, "type", "bridge");
  resources.defer(() => ip("link", "delete", name));
  await ip("address", "add", address, "dev", name);
  await ip("link", "set", name, "up");
  return name;
}

async function ip(...args: readonly string[]): Promise<void> {
  const { code, errorText } = await runCommand("ip", args);
  if (code !== 0) {
    throw new Error(`ip ${args.join(" ")}: ${errorText}`);
  }
}

/** dockerd leaves the network namespaces of its exec root mounted. */
async function unmountBelow(directory: string): Promise<void> {
  const { text } = await runCommand("findmnt", ["--list", "--noheadings", "--output", "TARGET"]);
  for (const target of text
    .split("\n")
    .filter((path) => path.startsWith(`${directory}/`))
    .reverse()) {
    await runCommand("umount", ["--lazy", target]);
  }
}
