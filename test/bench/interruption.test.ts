/** Tests that a bench which is interrupted takes its daemons, their containers and its files with it. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync } from "node:fs";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test } from "node:test";

import { checkout } from "../support/daemon.ts";
import { processesBelow } from "../support/processes.ts";
import { Terminal } from "../support/terminal.ts";
import { untilTrue } from "../support/until.ts";

/** In a network namespace of its own: dockerd leaves its bridge behind, however it ends. */
const program = "unshare";
const argsOf = (script: string, ...args: readonly string[]): string[] => [
  ...["--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"],
  ...["env", `--chdir=${checkout}`, process.execPath, "--import", "tsx", `scripts/${script}.ts`, ...args],
];

/** A bench under way: how it is interrupted, and everything that it printed, with its exit code, once it has ended. */
interface Bench {
  interrupt(): void;
  readonly ended: Promise<{ readonly code: number | null; readonly printed: string }>;
}

/** True once sockerless has a container in the bench's temporary directory. @param below its state: where it has them */
function hasContainer(temporary: string, below: string): boolean {
  return readdirSync(temporary).some((name) => {
    const containers = join(temporary, name, "state", below);
    return existsSync(containers) && readdirSync(containers).length > 0;
  });
}

async function leavesNothing(
  signal: string,
  start: (env: NodeJS.ProcessEnv) => Promise<Bench> | Bench,
  below = "containers",
): Promise<void> {
  const temporary = await mkdtemp(join(tmpdir(), "skl-"));
  const bench = await start({ ...process.env, TMPDIR: temporary });
  try {
    await untilTrue(() => hasContainer(temporary, below));
  } finally {
    bench.interrupt();
  }
  const { code, printed } = await bench.ended;
  assert.match(printed, new RegExp(`interrupted by ${signal}\\s*$`));
  assert.doesNotMatch(printed, /^ +at /m);
  assert.equal(code, 1);
  await untilTrue(() => processesBelow(temporary).length === 0); // Shims end behind the answers.
  assert.deepEqual(
    (await readdir(temporary)).filter((name) => !name.startsWith("tsx-")),
    [],
  );
  await rm(temporary, { recursive: true });
}

test("a bench leaves nothing after Ctrl-C at its terminal", () =>
  leavesNothing("SIGINT", async (env) => {
    const terminal = await Terminal.run(program, argsOf("bench"), env);
    return {
      interrupt: () => terminal.type("\x03"),
      ended: terminal.exitCode().then((code) => ({ code, printed: terminal.screen })),
    };
  }));

const startInBackground =
  (script: string, ...args: readonly string[]) =>
  (env: NodeJS.ProcessEnv): Bench => {
    const child = spawn(program, argsOf(script, ...args), { env, stdio: ["ignore", "ignore", "pipe"] });
    const printed = text(child.stderr);
    return {
      interrupt: () => void child.kill("SIGTERM"),
      ended: once(child, "close").then(async () => ({ code: child.exitCode, printed: await printed })),
    };
  };

for (const script of ["bench", "bench-volumes"]) {
  test(`${script} leaves nothing after SIGTERM`, () => leavesNothing("SIGTERM", startInBackground(script)));
}

test("bench-cloud leaves nothing after SIGTERM", () => {
  const args = ["--tasks", "100", "--clouds", "aca", "--others", "", "--rounds", "0"];
  return leavesNothing("SIGTERM", startInBackground("bench-cloud", ...args), "blobs");
});
