/** One container of a task: an overlay on its image, made and started by runc, and its output in lines. */
import { closeSync, openSync, constants as files } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { Socket } from "node:net";
import path from "node:path";

import { type ContainerSpec, runtimeSpec, type Surroundings } from "./bundle.ts";
import { oomKills } from "./cgroups.ts";
import { CommandFailed, type Enclosure } from "./enclosure.ts";
import { LineReader } from "./lines.ts";

/** How a container ended. */
export interface ContainerExit {
  readonly exitCode: number;
  /** Whether the kernel killed a process of it for want of memory. */
  readonly outOfMemory: boolean;
}

/** A container that the runtime did not start; the message is the runtime's. */
export class ContainerNotStarted extends Error {}

/** Settings of a container: its surroundings on the machine, and the listener to its output. */
export interface ContainerSettings {
  readonly enclosure: Enclosure;
  readonly spec: ContainerSpec;
  readonly surroundings: Surroundings;
  /** Name for the runtime, unlike every other of the simulator. */
  readonly id: string;
  /** The container's own directory; it need not exist. */
  readonly directory: string;
  /** The runtime's state of all containers of the simulator. */
  readonly runtimeRoot: string;
  /** Files below `/etc` by name, which the container may write. */
  readonly etcFiles: Readonly<Record<string, string>>;
  /** Lines of its output, without their ends. */
  onLines(lines: readonly string[]): void;
}

/** A container that the runtime has started. */
export class Container {
  /** Process 1, as the enclosure numbers it. */
  readonly pid: number;
  /** Resolves once it has ended and its output has been read. */
  readonly exited: Promise<ContainerExit>;
  readonly #settings: ContainerSettings;

  private constructor(
    settings: ContainerSettings,
    pid: number,
    since: number,
    outputEnded: Promise<unknown>,
  ) {
    this.#settings = settings;
    this.pid = pid;
    this.exited = this.#waitForExit(since, outputEnded);
  }

  /**
   * Starts a container.
   *
   * @throws {ContainerNotStarted} when the runtime refuses, or there is no such program
   * @throws {UnusableDefinition} when the definition does not fit the image
   */
  static async start(settings: ContainerSettings): Promise<Container> {
    const { enclosure, spec, id, directory } = settings;
    const at = (name: string): string => path.join(directory, name);
    await Promise.all(["upper", "work", "rootfs", "etc"].map((name) => mkdir(at(name), { recursive: true })));
    const etc = Object.entries(settings.etcFiles);
    await Promise.all(etc.map(([name, text]) => writeFile(at(`etc/${name}`), text)));
    const binds = etc.map(([name]) => ({
      source: at(`etc/${name}`),
      target: `/etc/${name}`,
      readOnly: false,
    }));
    const config = runtimeSpec({ ...spec, binds: [...spec.binds, ...binds] }, settings.surroundings);
    await writeFile(at("config.json"), JSON.stringify(config));
    const layers = `lowerdir=${spec.image.rootfs},upperdir=${at("upper")},workdir=${at("work")}`;
    await enclosure.run(
      ["sh", "-e"],
      `mount -t overlay overlay -o ${layers} ${at("rootfs")}\nmkfifo ${at("stdout")} ${at("stderr")}\n`,
    );
    const streams = { stdout: openOutput(at("stdout")), stderr: openOutput(at("stderr")) };
    const ready = Promise.withResolvers<boolean>();
    const outputEnded = [streams.stdout, streams.stderr].map(async ({ socket }) => {
      // A runtime that fails says so on the container's standard error too: that is no output of the container.
      const isOutput = await ready.promise;
      await readLines(socket, isOutput ? settings.onLines : () => {});
    });
    const since = enclosure.moment;
    try {
      await enclosure.runDetached(
        runc(settings, ["run", "--detach", "--bundle", directory, "--pid-file", at("pid"), id]),
        { stdout: streams.stdout.writeEnd, stderr: streams.stderr.writeEnd },
      );
      ready.resolve(true);
    } catch (error) {
      await enclosure.run(["umount", "--lazy", at("rootfs")]);
      throw await asNotStarted(settings, error);
    } finally {
      ready.resolve(false);
      closeSync(streams.stdout.writeEnd);
      closeSync(streams.stderr.writeEnd);
    }
    return new Container(
      settings,
      Number(await readFile(at("pid"), "utf8")),
      since,
      Promise.all(outputEnded),
    );
  }

  /** Sends process 1 a signal by its name or number; to one that has ended does nothing. */
  async kill(signal: string): Promise<void> {
    try {
      await this.#settings.enclosure.run(runc(this.#settings, ["kill", this.#settings.id, signal]));
    } catch (error) {
      if (!(error instanceof CommandFailed && /not running|process already finished/.test(error.stderr))) {
        throw error;
      }
    }
  }

  /** Removes the container, whether or not it has ended. */
  async remove(): Promise<void> {
    const { enclosure, directory, id } = this.#settings;
    await enclosure.run(runc(this.#settings, ["delete", "--force", id]));
    await enclosure.run(["umount", "--lazy", path.join(directory, "rootfs")]);
  }

  async #waitForExit(since: number, outputEnded: Promise<unknown>): Promise<ContainerExit> {
    const { enclosure, surroundings } = this.#settings;
    const exitCode = await enclosure.exitOf(this.pid, since);
    await outputEnded;
    return { exitCode, outOfMemory: (await oomKills(surroundings.cgroup)) > 0 };
  }
}

function runc({ runtimeRoot, directory }: ContainerSettings, args: readonly string[]): string[] {
  return ["runc", "--root", runtimeRoot, "--log", logFile(directory), "--log-format", "json", ...args];
}

function logFile(directory: string): string {
  return path.join(directory, "runc.log");
}

async function asNotStarted({ directory }: ContainerSettings, cause: unknown): Promise<unknown> {
  if (!(cause instanceof CommandFailed)) {
    return cause;
  }
  const lines = (await readFile(logFile(directory), "utf8")).trim().split("\n");
  const last = JSON.parse(lines.at(-1) || "{}") as { msg?: string };
  return new ContainerNotStarted(last.msg ?? cause.message, { cause });
}

/** A named pipe, open for reading here and for writing by descriptor. */
function openOutput(fifo: string): { readonly socket: Socket; readonly writeEnd: number } {
  const readEnd = openSync(fifo, files.O_RDONLY | files.O_NONBLOCK);
  return {
    socket: new Socket({ fd: readEnd, readable: true, writable: false }),
    writeEnd: openSync(fifo, "w"),
  };
}

async function readLines(socket: Socket, onLines: ContainerSettings["onLines"]): Promise<void> {
  const reader = new LineReader(onLines);
  for await (const chunk of socket) {
    reader.write(chunk as Buffer);
  }
  reader.end();
}
