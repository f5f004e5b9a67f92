/** `sockerless backend` or `sockerless frontend` alone: one process of a test's own. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";

/** One that serves. */
export class LoneProgram implements AsyncDisposable {
  /** The line that it prints once it serves. */
  readonly readyLine: string;
  readonly #child: ChildProcess;
  #output: string;

  private constructor(child: ChildProcess, readyLine: string, output: string) {
    this.#child = child;
    this.readyLine = readyLine;
    this.#output = output;
    const read = (chunk: Buffer): void => {
      this.#output += chunk.toString();
    };
    child.stdout?.on("data", read);
    child.stderr?.on("data", read);
  }

  /** Everything that it has printed. */
  get output(): string {
    return this.#output;
  }

  /**
   * Starts it and waits until it serves.
   *
   * @throws with everything that it printed, when it ends instead
   */
  static async start(program: string, args: readonly string[], env = process.env): Promise<LoneProgram> {
    const child = spawn(program, args, { env, stdio: ["ignore", "pipe", "pipe"] });
    const ready = Promise.withResolvers<string>();
    let printed = "";
    child.stderr.on("data", (chunk: Buffer) => {
      printed += chunk.toString();
    });
    child.stdout.on("data", (chunk: Buffer) => {
      printed += chunk.toString();
      const line = /^.*(?:listens on|DOCKER_HOST=).*$/m.exec(printed)?.[0];
      if (line !== undefined) {
        ready.resolve(line);
      }
    });
    child.once("error", ready.reject);
    child.once("close", (code) => ready.reject(new Error(`${program} ended with ${code}:\n${printed}`)));
    const readyLine = await ready.promise;
    return new LoneProgram(child, readyLine, printed);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Asks it to end, once; answers its exit code, null where a signal ended it. */
  async end(signal: NodeJS.Signals = "SIGTERM"): Promise<number | null> {
    const child = this.#child;
    if (child.exitCode === null && child.signalCode === null) {
      const ended = once(child, "exit");
      child.kill(signal);
      await ended;
    }
    return child.exitCode;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end();
  }
}
