/** A docker CLI that stays: attached, following, or in an exec. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import type { Daemon } from "./daemon.ts";
import { until } from "./until.ts";

const endLimitMs = 120_000;

export class FollowingClient {
  readonly #child: ChildProcess;
  readonly #closed: Promise<unknown[]>;
  readonly #name: string;
  #stdout = "";
  #stderr = "";

  /** Runs `docker ARGS…` with a standard input that stays open. */
  constructor(daemon: Daemon, ...args: string[]) {
    this.#name = args.join(" ");
    this.#child = spawn("docker", args, { env: daemon.clientEnv, stdio: ["pipe", "pipe", "pipe"] });
    this.#closed = once(this.#child, "close");
    this.#child.stdin?.on("error", () => {}); // it ended: its exit code tells
    this.#child.stdout?.on("data", (chunk: Buffer) => {
      this.#stdout += chunk.toString("latin1");
    });
    this.#child.stderr?.on("data", (chunk: Buffer) => {
      this.#stderr += chunk.toString("latin1");
    });
  }

  /** Standard output so far, one character for each byte. */
  get stdout(): string {
    return this.#stdout;
  }

  get stderr(): string {
    return this.#stderr;
  }

  get hasEnded(): boolean {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  write(text: string): void {
    this.#child.stdin?.write(text);
  }

  /** No more standard input. */
  endInput(): void {
    this.#child.stdin?.end();
  }

  /** Waits until more than so much has come, or this text. */
  async receives(wanted: number | string = 0): Promise<void> {
    await until(() => {
      if (typeof wanted === "string" ? this.#stdout.includes(wanted) : this.#stdout.length > wanted) {
        return true;
      }
      if (this.hasEnded) {
        throw new Error(`docker ${this.#name} ended with ${this.#child.exitCode}: ${this.#stderr}`);
      }
      return undefined;
    });
  }

  /** The exit code; fails when the client does not end by itself. */
  async exitCode(): Promise<number | null> {
    const limit = setTimeout(() => this.#child.kill("SIGKILL"), endLimitMs);
    await this.#closed;
    clearTimeout(limit);
    if (this.#child.signalCode !== null) {
      throw new Error(`docker ${this.#name} did not end: ${this.#stderr}`);
    }
    return this.#child.exitCode;
  }

  /** Ends the client, as a closed terminal does. */
  async leave(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#closed;
  }
}
