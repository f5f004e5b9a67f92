import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";

import { assertWithinMachine, hasCloud, withinMachine } from "./within-machine.ts";

/** How a program ended and what it said. */
export interface CommandResult {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: Buffer;
  readonly stderr: Buffer;
  /** Standard output as text, without the last newline. */
  readonly text: string;
  readonly errorText: string;
}

export interface CommandOptions {
  /** Written to standard input, which is then closed; without it standard input is empty. */
  readonly input?: string | Uint8Array | AsyncIterable<Uint8Array>;
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  /** Milliseconds after which the program is killed; 300,000 unless said. */
  readonly timeout?: number;
  /** Kills the program as soon as it aborts, and what that has started. */
  readonly signal?: AbortSignal;
}

/** Milliseconds that a compiler may take, which has compiled nothing before, on a machine that does other work too. */
export const buildLimitMs = 600_000;

/**
 * Runs a program that fetches what is kept outside of the checkout, or built from that: in the machine's network, also where
 * tests run in a cluster's.
 */
export function runFetching(
  program: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const network = process.env["SOCKERLESS_TEST_OUTER_NETWORK"];
  return network === undefined
    ? runCommand(program, args, options)
    : runCommand("nsenter", [`--net=${network}`, program, ...args], options);
}

/**
 * Runs a program to its end. Does not reject for an exit code. With credentials of a cloud it stays within this machine.
 *
 * @throws the signal's reason, where it has aborted before; where it would have left this machine
 */
export async function runCommand(
  program: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const { signal: interrupted } = options;
  interrupted?.throwIfAborted();
  const env = options.env ?? process.env;
  const child = spawn(program, args, {
    env: hasCloud(env) ? withinMachine(env) : env,
    ...(options.cwd !== undefined && { cwd: options.cwd }),
    timeout: options.timeout ?? 300_000,
    killSignal: "SIGKILL",
    detached: interrupted !== undefined, // in a group of its own
  });
  const kill = (): void => killGroup(child);
  interrupted?.addEventListener("abort", kill);
  const stdout = collect(child.stdout);
  const stderr = collect(child.stderr);
  const ended = once(child, "close") as Promise<[number | null, NodeJS.Signals | null]>;
  await writeInput(child, options.input);
  const [code, signal] = await ended.finally(() => interrupted?.removeEventListener("abort", kill));
  const out = Buffer.concat(stdout);
  const err = Buffer.concat(stderr);
  const errorText = err.toString().replace(/\n$/, "");
  if (hasCloud(env)) {
    assertWithinMachine(errorText);
  }
  return { code, signal, stdout: out, stderr: err, text: out.toString().replace(/\n$/, ""), errorText };
}

function killGroup({ pid }: ChildProcess): void {
  if (pid !== undefined) {
    try {
      process.kill(-pid, "SIGKILL");
    } catch {
      // All of it has ended.
    }
  }
}

function collect(stream: NodeJS.ReadableStream | null): Buffer[] {
  const chunks: Buffer[] = [];
  stream?.on("data", (chunk: Buffer) => chunks.push(chunk));
  return chunks;
}

async function writeInput(child: ChildProcess, input: CommandOptions["input"]): Promise<void> {
  const { stdin } = child;
  if (stdin === null) {
    return;
  }
  stdin.on("error", () => {}); // the program ended before it read everything: its exit code tells
  if (typeof input === "string" || input instanceof Uint8Array || input === undefined) {
    stdin.end(input ?? "");
    return;
  }
  for await (const chunk of input) {
    if (!stdin.write(chunk)) {
      await Promise.race([once(stdin, "drain"), once(stdin, "close")]);
    }
    if (stdin.destroyed) {
      return;
    }
  }
  stdin.end();
}
