/** Tests of the log's two forms, as the programs write it: for people at a terminal, objects of JSON elsewhere. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { before, describe, it } from "node:test";

import { runCommand } from "../support/command.ts";
import { checkout, Daemon } from "../support/daemon.ts";
import { callApi } from "../support/call-api.ts";
import { recordInstance } from "../support/made.ts";
import { processOf, killAndAwaitNext } from "../support/processes.ts";
import { inSoak, sampled } from "../support/soak.ts";
import { Terminal } from "../support/terminal.ts";
import { until, untilTrue } from "../support/until.ts";
import { scratchDirectory } from "../support/scratch.ts";

const program = join(checkout, "bin/sockerless");
const directory = scratchDirectory();
let socket: string;
let flags: readonly string[];

before(async () => {
  await writeFile(join(directory, "Dockerfile"), "FROM sockerless/hello\nLABEL a=b\n");
  socket = join(directory, "docker.sock");
  recordInstance(join(directory, "state"));
  const directories = ["--state-dir", join(directory, "state"), "--run-dir", join(directory, "run")];
  flags = ["--listen", `unix://${join(directory, "backend.sock")}`, ...directories];
});
/** Has every part of the daemon log something: a run, and requests that are refused. */
async function beUsed(): Promise<void> {
  await untilTrue(
    async () => (await callApi(socket, "GET", "/_ping").catch(() => undefined))?.status === 200,
  );
  const { code, errorText } = await runCommand("docker", ["run", "--rm", "sockerless/hello"], {
    env: { ...process.env, DOCKER_HOST: `unix://${socket}`, DOCKER_CONFIG: join(directory, "config") },
  });
  assert.equal(code, 0, errorText);
  for (const path of ["/containers/nobody/json", "/containers/json?filters=nonsense", "/nowhere"]) {
    assert.ok((await callApi(socket, "GET", path)).status >= 400);
  }
}

/** Lines on standard error of a program that is used, is told to read its files again, and is ended. */
async function linesOf(args: readonly string[], use: () => Promise<void>): Promise<string[]> {
  const child = spawn(program, args, { stdio: ["ignore", "ignore", "pipe"] });
  let printed = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    printed += text;
  });
  const ended = once(child, "close");
  try {
    await use();
    child.kill("SIGHUP");
    await until(() => printed.includes("there is nothing to read again") || undefined);
  } finally {
    child.kill("SIGTERM");
    await ended;
  }
  assert.equal(child.exitCode, 0);
  return linesIn(printed);
}

/** Lines at a terminal of a daemon that is used, and ended by Ctrl-C. */
async function linesAtTerminal(...more: readonly string[]): Promise<string[]> {
  const terminal = await Terminal.run(
    program,
    ["serve", "--host", `unix://${socket}`, ...flags, ...more],
    process.env,
  );
  try {
    await beUsed();
  } finally {
    terminal.type("\x03");
  }
  assert.equal(await terminal.exitCode(), 0);
  return linesIn(terminal.screen.replace("^C", "")).filter((line) => !/^(export )?DOCKER_HOST=/.test(line));
}

const linesIn = (text: string): string[] => text.split(/\r?\n/).filter((line) => line !== "");

const line = /^\d\d:\d\d:\d\d\.\d{3} (info|warn|error) (supervisor|backend|frontend)(\/\S+)?: \S/;

function assertForPeople(lines: readonly string[]): void {
  assert.ok(lines.length > 0);
  assert.deepEqual(
    lines.filter((each) => !line.test(each)),
    [],
  );
}

function assertJson(lines: readonly string[]): void {
  assert.ok(lines.length > 0);
  for (const each of lines) {
    const { process: name, level, time, msg } = JSON.parse(each, refuseJson) as Record<string, unknown>;
    assert.match(String(name), /^(supervisor|backend|frontend)$/);
    assert.match(String(level), /^(info|warn|error)$/);
    assert.ok(!Number.isNaN(Date.parse(String(time))), each);
    assert.equal(typeof msg, "string", each);
  }
}

/** Refuses an object as text within an object. */
function refuseJson(key: string, value: unknown): unknown {
  assert.doesNotMatch(typeof value === "string" ? value : "", /\{\\?"/, key);
  return value;
}

describe("the log", () => {
  const serve = (...more: readonly string[]): Promise<string[]> =>
    linesOf(["serve", "--host", `unix://${socket}`, ...flags, ...more], beUsed);

  it("is an object a line where standard error is no terminal", async () => {
    assertJson(await serve());
  });

  it("is for people at a terminal", inSoak, async () => {
    assertForPeople(await linesAtTerminal());
  });

  it("is as it is asked for, wherever it goes", inSoak, async () => {
    assertForPeople(await serve("--log-format", "text"));
    assertJson(await linesAtTerminal("--log-format", "json"));
  });

  it("is so of a backend alone", inSoak, async () => {
    const serves = () => untilTrue(() => existsSync(join(directory, "backend.sock")));
    assertForPeople(await linesOf(["backend", "local", ...flags, "--log-format", "text"], serves));
    assertJson(await linesOf(["backend", "local", ...flags], serves));
  });

  it("is an object a line of each process, the last words of one that crashes included", async () => {
    await using daemon = await Daemon.start({ args: ["--log-format", "json"] });
    await daemon.ok("build", "--quiet", directory);
    const crashing = ["host", "forwarder", "builder"] as const;
    for (const role of crashing) {
      process.kill(await processOf(daemon, role), "SIGQUIT"); // Go tells what it was at.
    }
    const said = (component: string, word: string): boolean =>
      linesIn(daemon.output).some(
        (each) => each.includes(`"component":"${component}"`) && each.includes(word),
      );
    await untilTrue(() => crashing.every((role) => said(role, "SIGQUIT") && said(role, "goroutine ")));
    const whole = daemon.output.slice(0, daemon.output.lastIndexOf("\n"));
    assertJson(linesIn(whole).filter((each) => !/^(export )?DOCKER_HOST=/.test(each)));
  });

  for (const format of ["json", "text"]) {
    it(
      `loses lines for which there is no room, and nobody is served worse: ${format}`,
      sampled(format === "json"),
      async () => {
        await using daemon = await Daemon.start({
          within: ["sh", "-c", 'exec "$@" 2> /dev/full', "sh"],
          args: ["--log-format", format],
        });
        assert.notEqual((await daemon.docker("inspect", "nobody")).code, 0);
        for (const role of ["frontend", "backend"] as const) {
          await killAndAwaitNext(daemon, role); // The supervisor tells of it.
          await untilTrue(async () => (await daemon.docker("ps")).code === 0);
        }
        await daemon.shutDown();
      },
    );
  }
});
