/** Running programs from the scripts. */
import { spawn } from "node:child_process";
import { resolve } from "node:path";

/** The checkout. */
export const root = resolve(import.meta.dirname, "..");

/** Outcome of a program that has run. */
export interface Outcome {
  readonly code: number;
  /** Standard output and standard error together, as they came. */
  readonly output: string;
}

/** Surroundings of a program. */
export interface RunOptions {
  /** Relative to the checkout. */
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** Runs a program of PATH or `node_modules/.bin` and keeps its output; exit code 127 when it cannot be started. */
export function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  return new Promise((done) => {
    const child = spawn(program, args, {
      cwd: resolve(root, options.cwd ?? "."),
      env: {
        ...process.env,
        PATH: `${resolve(root, "node_modules/.bin")}:${process.env["PATH"]}`,
        ...options.env,
      },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    const collect = (chunk: Buffer): void => {
      output += chunk.toString();
    };
    child.stdout.on("data", collect);
    child.stderr.on("data", collect);
    child.on("error", (error) => done({ code: 127, output: error.message }));
    child.on("close", (code) => done({ code: code ?? 1, output }));
  });
}
