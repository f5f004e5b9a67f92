/** A person at a terminal: types, looks at the screen, resizes the window. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import type { Writable } from "node:stream";
import { buildProgram } from "./programs.ts";

const lookLimitMs = 120_000;

export class Terminal {
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown[]>;
  #screen = "";
  #seen = 0;
  #changed = Promise.withResolvers<void>();

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#ended = once(child, "close");
    const show = (chunk: Buffer): void => {
      this.#screen += chunk.toString();
      this.#wake();
    };
    child.stdout?.on("data", show);
    child.stderr?.on("data", show);
    child.once("close", () => this.#wake());
  }

  /** Runs a program on a pseudo-terminal of 24 rows and 80 columns. */
  static async run(program: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<Terminal> {
    const pty = await buildProgram("pty");
    return new Terminal(spawn(pty, [program, ...args], { env, stdio: ["pipe", "pipe", "pipe", "pipe"] }));
  }

  /** Everything that was ever shown. */
  get screen(): string {
    return this.#screen;
  }

  /** Presses keys. A line ends with `\r`, ctrl-C is `\x03`. */
  type(keys: string): void {
    this.#child.stdin?.write(keys);
  }

  /** Changes the size of the window. */
  resize(rows: number, columns: number): void {
    (this.#child.stdio[3] as Writable).write(`${rows} ${columns}\n`);
  }

  /** Waits until the text appears after what was seen before; fails with the screen where it does not. */
  async see(text: string | RegExp): Promise<string> {
    const deadline = AbortSignal.timeout(lookLimitMs);
    for (;;) {
      const fresh = this.#screen.slice(this.#seen);
      const match = typeof text === "string" ? literal(fresh, text) : text.exec(fresh);
      if (match !== null) {
        this.#seen += match.index + match[0].length;
        return match[0];
      }
      if (deadline.aborted || this.#child.exitCode !== null) {
        throw new Error(
          `did not see ${text} in ${JSON.stringify(fresh)} (all: ${JSON.stringify(this.#screen)})`,
        );
      }
      await Promise.race([this.#changed.promise, once(deadline, "abort")]);
    }
  }

  /** Waits for the program's end and answers its exit code. */
  async exitCode(): Promise<number | null> {
    const limit = setTimeout(() => this.#child.kill("SIGKILL"), lookLimitMs);
    await this.#ended;
    clearTimeout(limit);
    return this.#child.exitCode;
  }

  #wake(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers<void>();
  }
}

function literal(text: string, wanted: string): { index: number; 0: string } | null {
  const index = text.indexOf(wanted);
  return index < 0 ? null : { index, 0: wanted };
}
