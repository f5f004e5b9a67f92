/**
 * Tests that a bench which is interrupted takes its daemons, their containers and its files with it: one of
 * clouds, and all of them with SOCKERLESS_SOAK=1.
 */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, existsSync, openSync, readdirSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test } from "node:test";

import { checkout } from "../support/daemon.ts";
import { controlGroupsOf, processesBelow } from "../support/processes.ts";
import { inSoak } from "../support/soak.ts";
import { Terminal } from "../support/terminal.ts";
import { untilTrue } from "../support/until.ts";
import { untilInterrupted } from "./interruption.ts";
import { scratchDirectory } from "../support/scratch.ts";

/** In a network namespace of its own: what is left in it is the bench's. */
const program = "unshare";
const argsOf = (script: string, ...args: readonly string[]): string[] => [
  ...["--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"],
  ...["env", `--chdir=${checkout}`, process.execPath, "--import", "tsx", `scripts/${script}.ts`, ...args],
];

/** A bench under way: how it is interrupted, and everything that it printed, with its exit code, once it has ended. */
interface Bench {
  interrupt(): void;
  /** The process whose network namespace it has; undefined: nobody looks. */
  readonly pid?: number | undefined;
  readonly ended: Promise<{ readonly code: number | null; readonly printed: string }>;
}

/** Containers in the bench's temporary directory. @param below a daemon's directory: where it has them */
function containersIn(temporary: string, below: string): string[] {
  return readdirSync(temporary)
    .map((name) => join(temporary, name, below))
    .flatMap((containers) => (existsSync(containers) ? readdirSync(containers) : []));
}

/** True once one of the bench's containers, or a simulated task, runs a command: their control groups are named like them. */
function runs(temporary: string, commandLine: string): boolean {
  const ids = ["state", "data"].flatMap((of) => containersIn(temporary, `${of}/containers`)); // ours and dockerd's
  const names = [...readdirSync(temporary), ...ids];
  return controlGroupsOf(commandLine).some((groups) => names.some((name) => groups.includes(name)));
}

async function leavesNothing(
  signal: string,
  start: (env: NodeJS.ProcessEnv) => Promise<Bench> | Bench,
  isUnderWay = (temporary: string) => containersIn(temporary, "state/containers").length > 0,
): Promise<void> {
  const temporary = scratchDirectory();
  const bench = await start({ ...process.env, TMPDIR: temporary });
  let namespace: number | undefined;
  try {
    await untilTrue(() => isUnderWay(temporary));
    namespace = bench.pid === undefined ? undefined : openSync(`/proc/${bench.pid}/ns/net`, "r");
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
  if (namespace !== undefined) {
    const show = ["--net=/proc/self/fd/3", "ip", "-oneline", "link", "show", "type", "bridge"];
    const { stdout } = spawnSync("nsenter", show, { stdio: ["ignore", "pipe", "inherit", namespace] });
    closeSync(namespace);
    assert.equal(stdout.toString(), "");
  }
}

test("a bench leaves nothing after Ctrl-C at its terminal", inSoak, () =>
  leavesNothing("SIGINT", async (env) => {
    const terminal = await Terminal.run(program, argsOf("bench"), env);
    return {
      interrupt: () => terminal.type("\x03"),
      ended: terminal.exitCode().then((code) => ({ code, printed: terminal.screen })),
    };
  }),
);

const startInBackground =
  (script: string, ...args: readonly string[]) =>
  (env: NodeJS.ProcessEnv): Bench => {
    const child = spawn(program, argsOf(script, ...args), { env, stdio: ["ignore", "ignore", "pipe"] });
    const printed = text(child.stderr);
    return {
      pid: child.pid,
      interrupt: () => void child.kill("SIGTERM"),
      ended: once(child, "close").then(async () => ({ code: child.exitCode, printed: await printed })),
    };
  };

for (const script of ["bench", "bench-volumes"]) {
  test(`${script} leaves nothing after SIGTERM`, inSoak, () =>
    leavesNothing("SIGTERM", startInBackground(script)),
  );
}

test("bench ends in the middle of a measure, with the programs that it runs for it", inSoak, () => {
  const args = ["--only", "docker exec, stdin", "--network", "none", "--rounds", "100000"];
  const isMeasuring = (temporary: string) =>
    readdirSync(temporary).some((name) => existsSync(join(temporary, name, "bench-zeros")));
  return leavesNothing("SIGTERM", startInBackground("bench", ...args), isMeasuring);
});

test("bench-cloud leaves nothing after SIGTERM", () => {
  const args = ["--tasks", "100", "--clouds", "aca", "--others", "", "--rounds", "0"];
  return leavesNothing(
    "SIGTERM",
    startInBackground("bench-cloud", ...args),
    (temporary) => containersIn(temporary, "state/blobs").length > 0,
  );
});

test("bench ends while a measure writes more than its container reads", inSoak, () => {
  const args = ["--only", "exec stdin", "--network", "none", "--rounds", "100000"];
  return leavesNothing("SIGTERM", startInBackground("bench", ...args), (temporary) =>
    runs(temporary, "dd of=/dev/null bs=1M"),
  );
});

test("bench-cloud ends while names are measured", inSoak, () => {
  const args = ["--tasks", "", "--clouds", "ecs", "--others", "1", "--changes", "100000", "--rounds", "0"];
  return leavesNothing("SIGTERM", startInBackground("bench-cloud", ...args), (temporary) =>
    runs(temporary, "namewatch 5ms late later roaming"),
  );
});

test("an interrupted bench tells of what it cannot remove", async () => {
  const fails = (): never => {
    throw new Error("it cannot be removed");
  };
  const interruptedWork = async (interrupted: AbortSignal) => {
    process.emit("SIGHUP", "SIGHUP");
    interrupted.throwIfAborted();
  };
  await assert.rejects(
    untilInterrupted(async (resources, interrupted) => {
      resources.defer(fails);
      await interruptedWork(interrupted);
    }),
    /it cannot be removed/,
  );
  await assert.rejects(
    untilInterrupted(async (_, interrupted) => {
      await using own = new AsyncDisposableStack();
      own.defer(fails);
      await interruptedWork(interrupted);
    }),
    (error) => error instanceof SuppressedError && /it cannot be removed/.test(String(error.error)),
  );
  process.exitCode = undefined;
});
