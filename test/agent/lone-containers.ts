/**
 * Containers that reach neither one another nor anybody else: each has an agent as its PID 1, in namespaces of its own, that
 * calls the backend by the only way out which it has.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { pipeline } from "node:stream";

import { checkout } from "../support/daemon.ts";
import { until } from "../support/until.ts";
import type { GuestAnswer, GuestCalls, GuestQuestion } from "./network-guest.ts";

/** Address of every container's interface. */
export const interfaceAddress = "10.77.0.2";
const gatePort = 4443;

/** A file system of the machine's programs, and the agent's own namespaces. */
const enclosure = `set -e
ip link set lo up
ip address add ${interfaceAddress}/32 dev lo
mount -t proc proc "$1/proc"
mount --bind /dev "$1/dev"
mount --rbind -o ro /usr "$1/usr"
exec chroot "$1" /agent init`;

/** A container's namespaces and agent. */
export class LoneContainer implements AsyncDisposable {
  readonly #unshare: ChildProcess;
  readonly #guests: NetworkGuest[] = [];
  readonly #pid: number;
  readonly said: () => string;

  private constructor(unshare: ChildProcess, pid: number, said: () => string) {
    this.#unshare = unshare;
    this.#pid = pid;
    this.said = said;
  }

  /**
   * @param directory empty, and the container's own
   * @param gate unix socket that leads to the backend's relay
   * @param env the agent's, without its callback's URL
   */
  static async start(
    directory: string,
    gate: string,
    env: Readonly<Record<string, string>>,
  ): Promise<LoneContainer> {
    await Promise.all(["proc", "dev", "usr", "etc", "tmp"].map((name) => mkdir(join(directory, name))));
    await writeFile(join(directory, "etc/hosts"), "127.0.0.1 localhost\n");
    await writeFile(join(directory, "etc/resolv.conf"), "");
    await writeFile(join(directory, "etc/passwd"), "root:x:0:0:root:/:/bin/sh\n");
    const links = ["bin", "lib", "lib64"].map((name) => `ln -s usr/${name} "$1/${name}"`).join("\n");
    const script = `${links}\ncp ${join(checkout, "build/sockerless-agent")} "$1/agent"\n${enclosure}`;
    const flags = ["--net", "--pid", "--mount", "--fork", "--kill-child"];
    const unshare = spawn("unshare", [...flags, "sh", "-c", script, "sh", directory], {
      env: {
        PATH: process.env["PATH"],
        SOCKERLESS_CALLBACK_URL: `https://127.0.0.1:${gatePort}`,
        ...env,
      },
      stdio: ["ignore", "ignore", "pipe"],
    });
    let said = "";
    unshare.stderr.on("data", (chunk: Buffer) => {
      said += chunk.toString();
    });
    const pid = await until(async () => {
      if (unshare.exitCode !== null) {
        throw new Error(`no agent: ${said}`);
      }
      const children = await readFile(`/proc/${unshare.pid}/task/${unshare.pid}/children`, "utf8");
      const first = Number.parseInt(children, 10);
      const command = Number.isNaN(first) ? "" : await readFile(`/proc/${first}/cmdline`, "utf8");
      return command.startsWith("/agent") ? first : undefined;
    });
    const container = new LoneContainer(unshare, pid, () => said);
    const guest = container.enter();
    await guest.ask("gate", gatePort, gate);
    return container;
  }

  /** A process in its network. */
  enter(): NetworkGuest {
    const guest = new NetworkGuest(this.#pid);
    this.#guests.push(guest);
    return guest;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const guest of this.#guests) {
      await guest.end();
    }
    await ended(this.#unshare);
  }
}

/** A process in a container's network, asked from outside. */
export class NetworkGuest {
  readonly #process: ChildProcess;
  readonly #open = new Map<number, (answer: GuestAnswer) => void>();
  #asked = 0;

  constructor(pid: number) {
    const program = join(checkout, "dist/test/agent/network-guest.js");
    this.#process = spawn("nsenter", [`--net=/proc/${pid}/ns/net`, process.execPath, program], {
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    this.#process.on("message", (answer: GuestAnswer) => {
      this.#open.get(answer.number)?.(answer);
      this.#open.delete(answer.number);
    });
  }

  /** @throws the guest's failure; Error: it does not answer within two minutes */
  async ask<Call extends keyof GuestCalls>(
    call: Call,
    ...args: Parameters<GuestCalls[Call]>
  ): Promise<Awaited<ReturnType<GuestCalls[Call]>>> {
    const number = ++this.#asked;
    const { value, failure } = await new Promise<GuestAnswer>((resolve) => {
      const silent = setTimeout(() => resolve({ number, failure: `${call}: no answer` }), 120_000);
      this.#open.set(number, (answer) => {
        clearTimeout(silent);
        resolve(answer);
      });
      this.#process.send({ number, call, args } satisfies GuestQuestion);
    });
    if (failure !== undefined) {
      throw new Error(failure);
    }
    return value as Awaited<ReturnType<GuestCalls[Call]>>;
  }

  async end(): Promise<void> {
    await ended(this.#process);
  }
}

async function ended(process: ChildProcess): Promise<void> {
  if (process.exitCode === null && process.signalCode === null) {
    const exited = once(process, "exit");
    process.kill("SIGKILL");
    await exited;
  }
}

/** A unix socket that leads to a port of this machine: it is there in every network namespace. */
export async function openGate(path: string, port: number): Promise<AsyncDisposable> {
  const gate = createServer((socket) => {
    const there = connect({ host: "127.0.0.1", port, noDelay: true });
    pipeline(socket, there, socket, () => {});
  });
  gate.listen(path);
  await once(gate, "listening");
  return {
    async [Symbol.asyncDispose]() {
      gate.close();
      await Promise.resolve();
    },
  };
}
