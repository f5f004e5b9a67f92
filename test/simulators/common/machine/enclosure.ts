/**
 * The part of this machine that belongs to one simulator: PID, mount and network namespaces under a process 1 of our
 * own. Everything that a task needs is made in there, so that the kernel takes it all (processes, mounts, interfaces,
 * rules) when process 1 goes, and that goes with this process, however it ends.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { buildProgram } from "../../../support/programs.ts";

/** Descriptors of this process to which a command's output goes. */
export interface Streams {
  readonly stdout: number;
  readonly stderr: number;
}

/** A command that ended with another code than 0. */
export class CommandFailed extends Error {
  readonly stderr: string;

  constructor(command: readonly string[], code: number | null, stderr: string) {
    super(`${command.slice(0, 4).join(" ")} ended with code ${code}: ${stderr.trim()}`);
    this.stderr = stderr.trim();
  }
}

/** The program of process 1, built once for all simulators of this process. */
let built: Promise<string> | undefined;

/** The exit code of a process that SIGKILL ended, as everything is when the enclosure ends. */
const killed = 137;

/** Namespaces of one simulator and what runs in them. */
export class Enclosure implements AsyncDisposable {
  /** Process 1, as this machine numbers it. */
  readonly pid: number;
  /** The program that is process 1, and holds shared PID namespaces. */
  readonly program: string;
  readonly #unshare: ChildProcess;
  /** Ends of processes that nobody has asked about yet, by the PID inside. */
  readonly #exits = new Map<number, { readonly code: number; readonly moment: number }>();
  readonly #waiting = new Map<number, (code: number) => void>();
  #moment = 0;
  #ended = false;
  #stopped = false;

  private constructor(unshare: ChildProcess, pid: number, program: string, lines: AsyncIterable<string>) {
    this.#unshare = unshare;
    this.pid = pid;
    this.program = program;
    void this.#followExits(lines);
  }

  static async start(): Promise<Enclosure> {
    built ??= buildProgram("taskhost");
    const program = await built;
    const flags = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
    const unshare = spawn("unshare", [...flags, "--propagation=private", program, "init"], {
      stdio: ["pipe", "pipe", "inherit"],
      detached: true, // A terminal's Ctrl-C is for this process alone, which then ends the rest in order.
    });
    const lines = createInterface(unshare.stdout)[Symbol.asyncIterator]();
    const ready = await lines.next();
    if (ready.value !== "ready" || unshare.pid === undefined) {
      throw new Error("the simulator's namespaces could not be made: it needs root and Linux");
    }
    const children = await readFile(`/proc/${unshare.pid}/task/${unshare.pid}/children`, "utf8");
    return new Enclosure(unshare, Number(children), program, { [Symbol.asyncIterator]: () => lines });
  }

  /**
   * Runs a command inside to its end and answers its standard output.
   *
   * @throws {CommandFailed} for any other exit code than 0
   */
  async run(command: readonly string[], input = ""): Promise<string> {
    const child = this.#spawn(command, "pipe");
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout?.on("data", (chunk: Buffer) => stdout.push(chunk));
    child.stderr?.on("data", (chunk: Buffer) => stderr.push(chunk));
    child.stdin?.on("error", () => {}); // it ended before it read everything: its exit code tells
    child.stdin?.end(input);
    const [code] = (await once(child, "close")) as [number | null];
    if (code !== 0) {
      throw new CommandFailed(command, code, Buffer.concat(stderr).toString());
    }
    return Buffer.concat(stdout).toString();
  }

  /** Runs a command whose streams outlive it, because a process that it leaves behind holds them. */
  async runDetached(command: readonly string[], streams: Streams): Promise<void> {
    const child = this.#spawn(command, streams);
    const [code] = (await once(child, "exit")) as [number | null];
    if (code !== 0) {
      throw new CommandFailed(command, code, "");
    }
  }

  /** Starts a program that serves until the end; resolves when it has printed `ready`. */
  async serve(command: readonly string[]): Promise<void> {
    const child = this.#spawn(command, "pipe");
    child.stdin?.end();
    const stderr: Buffer[] = [];
    child.stderr?.on("data", (chunk: Buffer) => stderr.push(chunk));
    const ended = once(child, "close") as Promise<[number | null]>;
    const ready = once(child.stdout ?? child, "data");
    const code = await Promise.race([ready.then(() => undefined), ended.then(([status]) => status ?? 128)]);
    if (code !== undefined) {
      throw new CommandFailed(command, code, Buffer.concat(stderr).toString());
    }
  }

  /** A point in the order of the ends of processes, for {@link exitOf}. */
  get moment(): number {
    return this.#moment;
  }

  /**
   * Waits for the end of a process that process 1 inherits.
   *
   * @param pid as numbered inside
   * @param since a moment before the process was made: its number may have been another's before
   */
  exitOf(pid: number, since: number): Promise<number> {
    if (this.#ended) {
      return Promise.resolve(killed);
    }
    const exit = this.#exits.get(pid);
    if (exit !== undefined && exit.moment > since) {
      this.#exits.delete(pid);
      return Promise.resolve(exit.code);
    }
    return new Promise((resolve) => this.#waiting.set(pid, resolve));
  }

  /** This machine's PID of a child of process 1; undefined once it has ended. @param pid as numbered inside */
  hostPid(pid: number): number | undefined {
    const children = readFileSync(`/proc/${this.pid}/task/${this.pid}/children`, "utf8").trim().split(" ");
    const numbers = (child: string): string => {
      try {
        return /^NSpid:(.*)$/m.exec(readFileSync(`/proc/${child}/status`, "utf8"))?.[1] ?? "";
      } catch {
        return ""; // it has just ended
      }
    };
    const found = children.find((child) => numbers(child).trim().split(/\s+/)[1] === String(pid));
    return found === undefined ? undefined : Number(found);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#stopped) {
      return;
    }
    this.#stopped = true;
    const ended = once(this.#unshare, "exit");
    this.#unshare.stdin?.end();
    await ended;
  }

  #spawn(command: readonly string[], streams: Streams | "pipe"): ChildProcess {
    if (this.#stopped || this.#ended) {
      // The number of process 1 may be another's by now.
      throw new CommandFailed(command, null, "the enclosure has ended");
    }
    const enter = ["--target", String(this.pid), "--mount", "--net", "--pid", "--", ...command];
    const stdio =
      streams === "pipe"
        ? "pipe"
        : (["ignore", streams.stdout, streams.stderr] as ["ignore", number, number]);
    return spawn("nsenter", enter, { stdio, detached: true });
  }

  async #followExits(lines: AsyncIterable<string>): Promise<void> {
    for await (const line of lines) {
      const [pid = 0, code = 0] = line.split(" ").map(Number);
      this.#moment += 1;
      const resolve = this.#waiting.get(pid);
      if (resolve === undefined) {
        this.#exits.set(pid, { code, moment: this.#moment });
      } else {
        this.#waiting.delete(pid);
        resolve(code);
      }
    }
    this.#ended = true;
    for (const resolve of this.#waiting.values()) {
      resolve(killed);
    }
  }
}
