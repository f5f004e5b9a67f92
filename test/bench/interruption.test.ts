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
const argsOf = (script: string): string[] => [
  ...["--net", "env", `--chdir=${checkout}`, process.execPath, "--import", "tsx"],
  `scripts/${script}.ts`,
];

/** A bench under way: how it is interrupted, and everything that it printed, with its exit code, once it has ended. */
interface Bench {
  interrupt(): void;
  readonly ended: Promise<{ readonly code: number | null; readonly printed: string }>;
}

/** True once sockerless has a container in the bench's temporary directory. */
function hasContainer(temporary: string): boolean {
  return readdirSync(temporary).some((name) => {
    const containers = join(temporary, name, "state/containers");
    return existsSync(containers) && readdirSync(containers).length > 0;
  });
}

async function leavesNothing(
  signal: string,
  start: (env: NodeJS.ProcessEnv) => Promise<Bench> | Bench,
): Promise<void> {
  const temporary = await mkdtemp(join(tmpdir(), "skl-"));
  const bench = await start({ ...process.env, TMPDIR: temporary });
  try {
    await untilTrue(() => hasContainer(temporary));
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

for (const script of ["bench", "bench-volumes"]) {
  test(`${script} leaves nothing after SIGTERM`, () =>
    leavesNothing("SIGTERM", (env) => {
      const child = spawn(program, argsOf(script), { env, stdio: ["ignore", "ignore", "pipe"] });
      const printed = text(child.stderr);
      return {
        interrupt: () => void child.kill("SIGTERM"),
        ended: once(child, "close").then(async () => ({ code: child.exitCode, printed: await printed })),
      };
    }));
}
