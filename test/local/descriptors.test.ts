/**
 * Nothing that is started inherits what it does not need, the database above all: seen from outside, process by process,
 * and from a container that may trace and looks at whatever comes into it.
 */
import assert from "node:assert/strict";
import { openSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { isDeepStrictEqual } from "node:util";

import { Daemon } from "../support/daemon.ts";
import { childrenOf, findShim, openFiles, processOf } from "../support/processes.ts";
import { buildProgram } from "../support/programs.ts";
import { isSoak } from "../support/soak.ts";
import { until, untilTrue } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";
import { scratchDirectory } from "../support/scratch.ts";

const { daemon, ok } = withDaemon({ inherits: openSync(import.meta.filename, "r") });

/** Descriptors that a process has open, by number, without what differs from run to run. */
function descriptorsOf(pid: number): Map<number, string> {
  const found = new Map<number, string>();
  for (const name of namesOfDescriptors(pid)) {
    const target = targetOf(pid, name);
    if (target !== "") {
      found.set(Number(name), kindOf(target));
    }
  }
  return found;
}

function namesOfDescriptors(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/fd`);
  } catch {
    return []; // It has ended meanwhile.
  }
}

function kindOf(target: string): string {
  return target
    .replace(daemon.stateDir, "STATE")
    .replace(daemon.runDir, "RUN")
    .replace(/^.*\/(backend\.sock\.generation)$/, "$1")
    .replace(/^.*\/sockerless-execs-\w+\/(slots) \(deleted\)$/, "$1")
    .replace(/[0-9a-f]{64}/, "ID")
    .replace(/^(pipe|socket):.*/, "$1")
    .replace(/^anon_inode:\[(.*)\]$/, "$1")
    .replace(/^\/dev\/pts\/\d+$/, "terminal")
    .replace(/\d{6,}/, "N");
}

/** Waits until a process has nothing open but what it may have and all that it must have; what it works on comes and goes. */
async function assertHasOnly(
  pid: number,
  must: readonly string[],
  may: readonly string[] = [],
): Promise<void> {
  const differs = () => {
    const kinds = new Set(descriptorsOf(pid).values());
    const more = [...kinds].filter((kind) => !must.includes(kind) && !may.includes(kind));
    return { more, missing: must.filter((kind) => !kinds.has(kind)) };
  };
  const settled = until(() => {
    const { more, missing } = differs();
    return more.length + missing.length === 0 || undefined;
  });
  await settled.catch(() => undefined);
  assert.deepEqual(differs(), { more: [], missing: [] });
}

/** True if a process has a socket that listens. */
function listens(pid: number): boolean {
  const table = (name: string) => readFileSync(`/proc/${pid}/net/${name}`, "utf8").split("\n").slice(1);
  const unix = table("unix")
    .map((line) => line.trim().split(/\s+/))
    .filter(([, , , flags]) => (Number.parseInt(flags ?? "", 16) & acceptsConnections) !== 0)
    .map(([, , , , , , inode]) => inode);
  const tcp = [...table("tcp"), ...table("tcp6")]
    .map((line) => line.trim().split(/\s+/))
    .filter(([, , , state]) => state === tcpListens)
    .map(([, , , , , , , , , inode]) => inode);
  const listening = new Set([...unix, ...tcp].map((inode) => `socket:[${inode}]`));
  return openFiles(pid).some((target) => listening.has(target));
}

function targetOf(pid: number, descriptor: string): string {
  try {
    return readlinkSync(`/proc/${pid}/fd/${descriptor}`);
  } catch {
    return ""; // Closed meanwhile.
  }
}

/** Flag of a unix socket, and state of a TCP socket, in the kernel's tables. */
const acceptsConnections = 0x10000;
const tcpListens = "0A";

/** Node's own: its event loops. */
const node = ["pipe", "socket", "eventpoll", "eventfd", "/dev/null"];
const nodeMay = ["io_uring"];
/** Go's own, and its ways to wait for a process. */
const go = ["eventpoll", "eventfd"];

describe("from outside", () => {
  test("a process of the daemon has what it opened itself", async () => {
    await ok("run", "-d", "busybox", "sleep", "1000");
    const database = ["db/LOG", "db/LOCK", "db/N.log", "db/MANIFEST-N", "spare"].map(
      (name) => `STATE/${name}`,
    );
    await assertHasOnly(await processOf(daemon, "backend"), [...node, ...database], nodeMay);
    await assertHasOnly(await processOf(daemon, "frontend"), [...node, "slots"], nodeMay);
    await assertHasOnly(
      await processOf(daemon, "host"),
      [...go, "socket", "/dev/null", "RUN/host.lock"],
      ["pidfd"],
    );
  });

  test("the forwarder has its channel, and listens nowhere", async () => {
    const forwarder = await processOf(daemon, "forwarder");
    await assertHasOnly(forwarder, [...go, "socket", "/dev/null"], ["pipe"]);
    const id = await ok("run", "-d", "busybox", "sleep", "1000");
    assert.ok(listens(shimOf(id)));
    assert.ok(!listens(forwarder));
  });

  test("a shim has its sockets, its logs and its container's streams", async () => {
    const health = ["--health-cmd", "sleep 1000", "--health-interval", "10ms", "--health-timeout", "1h"];
    const id = await ok("run", "-d", "-p", "127.0.0.1::80", ...health, "busybox", "sleep", "1000");
    await assertHasOnly(
      shimOf(id),
      // The root is the shim's binary on a mount of its own.
      [
        ...go,
        "pidfd",
        "socket",
        "pipe",
        "/dev/null",
        "STATE/containers/ID/shim.log",
        "STATE/containers/ID/log/N.log",
        "/",
      ],
      ["inotify"],
    );
  });

  test("a container's processes have their standard streams", async () => {
    const health = ["--health-cmd", "sleep 1000", "--health-interval", "10ms", "--health-timeout", "1h"];
    const id = await ok("run", "-d", ...health, "busybox", "sleep", "1000");
    await ok("exec", "-d", id, "sleep", "1000");
    await ok("exec", "-d", "-t", id, "sleep", "1000");
    // The runtime's processes come and go, and so does what they have open.
    const streams = /^(pipe|\/dev\/null|terminal|\/null|\/0)$/;
    const processes = () =>
      childrenOf(shimOf(id)).map((pid) =>
        [...descriptorsOf(pid)]
          .toSorted(([one], [other]) => one - other)
          .map(([number, kind]) => (streams.test(kind) ? number : `${number} ${kind}`)),
      );
    const own = Array.from({ length: 4 }, () => [0, 1, 2]);
    await untilTrue(() => isDeepStrictEqual(processes(), own)).catch(() => undefined);
    assert.deepEqual(processes(), own);
  });

  test("the OCI runtime is given its standard streams, by the host process and by shims", async () => {
    const directory = scratchDirectory();
    const runtime = join(directory, "runtime");
    const record = join(directory, "record");
    // A script in the program's place inherits the same descriptors; 3 is the directory that `ls` reads.
    const lines = [
      "#!/bin/sh",
      `(echo "$*"; ls -l /proc/self/fd) >> ${record} 2> /dev/null`,
      'exec runc "$@"',
    ];
    await writeFile(runtime, `${lines.join("\n")}\n`, { mode: 0o755 });
    await using daemon = await Daemon.startWithBusybox({
      args: ["--runtime", runtime],
      inherits: openSync(import.meta.filename, "r"),
    });
    const id = await daemon.ok("run", "-d", "--ulimit", "nproc=10000", "busybox", "sleep", "1000");
    await daemon.ok("exec", "-d", id, "true"); // That limit is the runtime's to set.
    await daemon.ok("pause", id);
    await daemon.ok("unpause", id);
    await daemon.ok("rm", "-f", id);
    const seen = await readFile(record, "utf8");
    for (const command of ["run", "create", "exec", "pause", "resume"]) {
      assert.match(seen, new RegExp(`^--root .* ${command} `, "m"));
    }
    const beyond = seen.split("\n").filter((line) => / (?!0|1|2|3 -> \/proc\/)\d+ -> /.test(line));
    assert.deepEqual(beyond, []);
  });
});

/** How many processes on their way into the container are looked at. */
const entering = isSoak ? 100 : 20;

describe("from inside, with the right to trace", () => {
  test("whatever comes into the container has its own standard streams and nothing of the machine", async () => {
    const health = ["--health-cmd", "true", "--health-interval", "10ms"];
    const watcher = await ok(
      ...["run", "-d", "--cap-add", "SYS_PTRACE", ...health],
      ...["--volume", `${await buildProgram("fdwatch")}:/fdwatch:ro`, "busybox", "/fdwatch"],
      String(entering),
    );
    const ended = ok("wait", watcher);
    let watching = true;
    const stop = () => {
      watching = false;
    };
    ended.then(stop, stop);
    const load = async (...command: string[]) => {
      while (watching) {
        await daemon.docker(...command);
      }
    };
    await Promise.all([
      load("exec", watcher, "true"),
      load("exec", watcher, "no-such-program"), // Its refusal is no way to have the runtime come.
      load("exec", "-t", "--user", "app", watcher, "true"),
      load("cp", `${watcher}:/etc/passwd`, "-"),
    ]);
    assert.equal(await ended, "0");
    const foreign = (await ok("logs", watcher)).split("\n").filter((line) => !own.test(line));
    assert.deepEqual(foreign, []);
  });
});

/** The standard streams and the environment of the container's programs, and the variables of what enters it. */
const own =
  /^\S+ (?:[012] (?:\/dev\/null|\/dev\/pts\/\d+|pipe:\[\])|environ (?:HOME|HOSTNAME|PATH|TERM|SOCKERLESS_AGENT_ENTER|GOMAXPROCS))$/;

function shimOf(id: string): number {
  const shim = findShim(daemon, id);
  assert.ok(shim !== undefined);
  return shim;
}
