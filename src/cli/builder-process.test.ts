import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { cp, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { describe, test } from "node:test";

import { isAlive, processesBelow } from "../../test/support/processes.ts";
import { until, untilTrue } from "../../test/support/until.ts";
import { checkout } from "../common/built-programs.ts";
import { createLogger } from "../common/logger.ts";
import type { LineLogger } from "../common/process-log.ts";
import { BuilderProcess, builderRefusal } from "./builder-process.ts";
import { scratchDirectory } from "../../test/support/scratch.ts";

describe("a builder", () => {
  test("works as root, on a machine like those of its tasks", () => {
    const host = { architecture: "x64", userId: 0 };
    assert.equal(builderRefusal({}, host), undefined);
    assert.equal(builderRefusal({ ecs: { architecture: "amd64" } }, host), undefined);
    assert.match(
      builderRefusal({ ecs: { architecture: "arm64" } }, host) ?? "",
      /^builds for linux\/arm64 \(ecs\.architecture\) are not possible here/,
    );
    assert.equal(builderRefusal({ aca: {} }, host), undefined);
    assert.match(
      builderRefusal({ aca: {} }, { ...host, architecture: "arm64" }) ?? "",
      /^builds for linux\/amd64 \(as jobs of Container Apps are\) are not possible here: this machine is linux\/arm64$/,
    );
    assert.match(builderRefusal({}, { ...host, userId: 1000 }) ?? "", /need root/);
  });

  test("that cannot be started fails at once, with the reason", async () => {
    const directory = scratchDirectory();
    await writeFile(join(directory, "program"), "", { mode: 0o600 });
    await assert.rejects(
      builderIn(directory).start(false, () => {}),
      { message: /^the builder cannot be started: spawn .* EACCES$/ },
    );
  });

  test("that was killed leaves no socket behind an orderly end", async () => {
    const directory = scratchDirectory();
    const program = `#!${process.execPath}
const socket = process.argv[process.argv.indexOf("--listen") + 1];
require("node:net").createServer(() => process.kill(process.pid, "SIGKILL")).listen(socket);
`;
    await writeFile(join(directory, "program"), program, { mode: 0o700 });
    const builder = builderIn(directory);
    const socket = await builder.start(false, () => {});
    assert.equal(socket, join(directory, "builder.sock"));
    assert.ok(existsSync(socket));

    await builder.stop();
    assert.ok(!existsSync(socket));
  });

  test("goes on while more connections wait than its queue has room for", async (t) => {
    const directory = scratchDirectory();
    const started = join(directory, "started");
    const program = `#!${process.execPath}
const { appendFileSync } = require("node:fs");
const path = process.argv[process.argv.indexOf("--listen") + 1];
require("node:net").createServer(() => {
  appendFileSync("${started}", "x");
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}).listen({ path, backlog: 1 });
`;
    await writeFile(join(directory, "program"), program, { mode: 0o700 });
    const builder = builderIn(directory);
    t.after(() => builder.kill());
    const socket = (await builder.start(false, () => {})) ?? assert.fail();
    await untilTrue(() => existsSync(started));
    for (let hasRoom = true; hasRoom; ) {
      const waiting = connect(socket);
      t.after(() => waiting.destroy());
      hasRoom = await new Promise<boolean>((resolve) => {
        waiting.once("connect", () => resolve(true)).once("error", () => resolve(false));
      });
    }
    assert.equal(await builder.start(false, () => {}), socket);
    assert.equal(readFileSync(started, "utf8"), "x");
  });

  test("goes on, or is started later, while its supervisor has no file descriptor left", async () => {
    const directory = scratchDirectory();
    const started = join(directory, "started");
    const builder = `#!${process.execPath}
require("node:fs").appendFileSync("${started}", "x");
const path = process.argv[process.argv.indexOf("--listen") + 1];
require("node:net").createServer().listen(path);
`;
    await writeFile(join(directory, "program"), builder, { mode: 0o700 });
    await mkdir(join(directory, "builder"));
    await writeFile(join(directory, "builder/states.db"), ""); // It has built.
    const files = { program: join(directory, "program"), compiler: join(directory, "none") };
    const limited = `ulimit -n 100; exec "$0" --input-type=module --eval "$@"`;
    const supervisor = spawn(
      "sh",
      ["-c", limited, process.execPath, shortOfFilesProgram, directory, JSON.stringify(files)],
      { stdio: ["ignore", "pipe", "inherit"], timeout: 50_000, killSignal: "SIGKILL" },
    );
    const said = await text(supervisor.stdout);
    const socket = join(directory, "builder.sock");
    assert.deepEqual(said.trim().split("\n"), [
      `the builder cannot be started: spawn ${files.program} EMFILE`,
      `spawn ${process.execPath} EMFILE`,
      socket,
    ]);
    assert.equal(readFileSync(started, "utf8"), "x");
  });

  test("that ends at its start is started again once, whoever asks meanwhile", async (t) => {
    const directory = scratchDirectory();
    const program = `#!${process.execPath}
const { existsSync, writeFileSync } = require("node:fs");
const isFirst = !existsSync("${directory}/ended");
writeFileSync("${directory}/ended", "");
const path = process.argv[process.argv.indexOf("--listen") + 1];
isFirst ? process.exit(1) : setInterval(() => {}, 1_000);
require("node:net").createServer().on("error", () => {}).listen(path);
`;
    await writeFile(join(directory, "program"), program, { mode: 0o700 });
    const silent = (): void => {};
    const ended = Promise.withResolvers<void>();
    const error = (): void => ended.resolve();
    const builder = builderIn(directory, { debug: silent, info: silent, warn: silent, error });
    t.after(() => builder.kill());
    const first = builder.start(false, () => {});
    const again = ended.promise.then(() => builder.start(false, () => {}));
    await assert.rejects(first, /the builder did not start/);
    await Promise.all([again, builder.start(false, () => {})]);
    assert.equal(processesBelow(directory).length, 1);
  });

  test("is restarted after it was killed, also with an earlier daemon, but not after a clean end", async () => {
    const directory = await mkdtemp(join(tmpdir(), "skl-builder-"));
    const first = builderIn(directory);
    const next = builderIn(directory);
    try {
      const pids = join(directory, "pids");
      const program = `#!${process.execPath}
const socket = process.argv[process.argv.indexOf("--listen") + 1];
require("node:net").createServer().listen(socket);
process.on("SIGTERM", () => process.exit(0));
require("node:fs").appendFileSync("${pids}", process.pid + " ");
`;
      await writeFile(join(directory, "program"), program, { mode: 0o700 });
      const started = async (count: number): Promise<number> => {
        const all = (): string[] => (existsSync(pids) ? readFileSync(pids, "utf8").trim().split(" ") : []);
        await untilTrue(() => all().length === count);
        return Number(all().at(-1));
      };
      await first.start(false, () => {});
      await writeFile(join(directory, "builder/states.db"), ""); // It has built.
      process.kill(await started(1), "SIGKILL");
      await started(2);
      first.kill();

      next.resume();
      await started(3);
      await next.stop();
      assert.deepEqual(await readdir(join(directory, "builder")), ["states.db"]);
    } finally {
      first.kill();
      next.kill();
      await rm(directory, { recursive: true });
    }
  });

  for (const [end, name] of [
    ["SIGKILL", "is compiled by nobody any more once its daemon is killed"],
    ["SIGTERM", "is compiled by nobody any more once its daemon ends"],
  ] as const) {
    test(name, async () => {
      const directory = await checkoutThatCompilesForever();
      const started = join(directory, "started");
      const files = {
        program: join(directory, "build/sockerless-builder"),
        compiler: join(directory, compiler),
      };
      const parent = spawn(
        process.execPath,
        ["--input-type=module", "--eval", daemonProgram, directory, JSON.stringify(files)],
        {
          env: { ...process.env, PATH: `${directory}:${process.env.PATH}` },
          stdio: "inherit",
        },
      );
      let pid: number | undefined;
      try {
        pid = await until(() => (existsSync(started) ? Number(readFileSync(started, "utf8")) : undefined));
        parent.kill(end);
        await untilTrue(() => !isAlive(Number(pid)));
      } finally {
        parent.kill("SIGKILL");
        if (pid !== undefined && isAlive(pid)) {
          process.kill(pid, "SIGKILL");
        }
        await rm(directory, { recursive: true });
      }
    });
  }

  test("of a daemon before leaves no socket either", async () => {
    const directory = scratchDirectory();
    await writeFile(join(directory, "builder.sock"), "");
    await builderIn(directory).stop();
    assert.ok(!existsSync(join(directory, "builder.sock")));
  });
});

const compiler = "scripts/prepare/build-builder.mjs";

/** A checkout with nothing but a builder's compiler, and a Go that writes its process ID to `started` and compiles for ever. */
async function checkoutThatCompilesForever(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "skl-builder-"));
  await cp(join(checkout, "scripts/prepare"), join(directory, "scripts/prepare"), { recursive: true });
  await mkdir(join(directory, "builder"));
  await mkdir(join(directory, "proto/gen"), { recursive: true });
  for (const module of ["builder", "proto"]) {
    await writeFile(join(directory, module, "go.mod"), "module example.com/nothing\n\ngo 1.24\n");
  }
  const go = `#!/bin/sh
if [ "$1" = version ]; then echo go version go99.0 linux/amd64; exit; fi
echo $$ > "${directory}/starting"
mv "${directory}/starting" "${directory}/started"
exec sleep 1000
`;
  await writeFile(join(directory, "go"), go, { mode: 0o700 });
  return directory;
}

/** The first lines of a daemon with a builder. Arguments: its directory, the builder's files. */
const daemonBeginning = `
import { BuilderProcess } from ${JSON.stringify(import.meta.resolve("./builder-process.js"))};
import { createLogger } from ${JSON.stringify(import.meta.resolve("../common/logger.js"))};
const [directory, files] = process.argv.slice(1);
const config = {
  ...{ stateDir: directory, runDir: directory, backendAddress: "unix:///nowhere" },
  ...{ builder: { cacheSize: 1, contextSize: 1, memory: 1 }, insecureRegistries: [] },
};
const logger = createLogger({ level: "silent", process: "test" });
const builder = new BuilderProcess(config, logger, JSON.parse(files));
`;

/** A daemon that starts a builder, and stops it at SIGTERM. */
const daemonProgram = `${daemonBeginning}
process.once("SIGTERM", () => builder.stop());
builder.start(false, () => {}).catch(() => {});
`;

/** A daemon that lacks file descriptors as it starts a builder and, once that is started later, as it asks for it again. */
const shortOfFilesProgram = `${daemonBeginning}
import { closeSync, existsSync, openSync } from "node:fs";
import { setTimeout } from "node:timers/promises";
const open = [];
function openAll() {
  try {
    for (;;) open.push(openSync("/dev/null"));
  } catch {}
}
openAll();
closeSync(open.pop()); // For the mark of a running builder.
await builder.start(false, () => {}).catch(({ message }) => console.log(message));
const compiled = new BuilderProcess(config, logger, { ...JSON.parse(files), compiler: directory + "/program" });
await compiled.start(false, () => {}).catch(({ message }) => console.log(message));
open.splice(0).forEach((each) => closeSync(each));
while (!existsSync(directory + "/builder.sock")) await setTimeout(10);
openAll();
console.log(await builder.start(false, () => {}));
builder.kill();
`;

/** A builder whose program, state and socket are in a directory. */
function builderIn(
  directory: string,
  logger: LineLogger = createLogger({ level: "silent", process: "test" }),
): BuilderProcess {
  return new BuilderProcess(
    {
      stateDir: directory,
      runDir: directory,
      backendAddress: "unix:///nowhere",
      builder: { cacheSize: 1, contextSize: 1, memory: 1 },
      insecureRegistries: [],
      metricsAddr: undefined,
    },
    logger,
    { program: join(directory, "program"), compiler: join(directory, "none") },
  );
}
