/**
 * Streams under load: every byte arrives, nobody waits for a client that does not read, and no process grows without
 * bound. A sample; whole sizes with SOCKERLESS_SOAK=1 (`npm run soak`). The figures are in docs/performance.md.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdir, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { inSoak, isSoak } from "../support/soak.ts";
import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";
import { PeakMemory } from "./peak-memory.ts";
import { answeredThenStalled, createExec, open, readFrames, receive, vanishing } from "./stream-client.ts";

const { daemon } = withDaemon();
/** How much a process may grow, in MiB, however many clients there are and however much they are sent. */
const bounds = { frontend: 190, backend: 60, host: 100, shim: 110 };

const followerCount = 200;
const execCount = 100;
const lineCount = isSoak ? 50_000 : 10_000;
const stalledLog = 256 * 1024 * 1024;
const sequence = Buffer.from(Array.from({ length: lineCount }, (_, index) => `${index + 1}\n`).join(""));
const expected = { bytes: sequence.length, sha256: createHash("sha256").update(sequence).digest("hex") };

const times = <T>(count: number, make: () => Promise<T>): Promise<T[]> =>
  Promise.all(Array.from({ length: count }, make));

/** Once a container's script has come to its `exec sleep`. */
async function done(id: string): Promise<void> {
  await until(async () => (await daemon.ok("exec", id, "cat", "/proc/1/comm")) === "sleep" || undefined);
}

test(`${followerCount} clients that follow one log get every byte, beside some that never read and some that vanish`, async (t) => {
  const gate = join(daemon.directory, "followers");
  await mkdir(gate);
  const script = `while [ ! -e /gate/open ]; do usleep 10000; done; seq 1 ${lineCount}`;
  const id = await daemon.ok("run", "-d", "--volume", `${gate}:/gate`, "busybox", "sh", "-c", script);
  using memory = await PeakMemory.of(daemon, [id]);
  const follow = [daemon.socket, "GET", `/containers/${id}/logs?stdout=1&follow=1`] as const;
  const never = await times(20, () => answeredThenStalled(...follow));
  const leaving = await times(50, () => open(...follow));
  const following = await times(followerCount, () => open(...follow));
  const left = leaving.map(vanishing);
  const all = following.map(readFrames);
  await mkdir(join(gate, "open"));
  for (const received of await Promise.all(all)) {
    assert.deepEqual(received, expected);
  }
  await Promise.all(left);
  for (const socket of never) {
    socket.destroy();
  }
  t.diagnostic(String(memory));
  assert.deepEqual(memory.grownBeyond(bounds), []);
});

test(
  `${followerCount} clients of a log of ${stalledLog / 1024 / 1024} MiB that do not read cost little, again and again`,
  inSoak,
  async (t) => {
    const script = `yes ${"x".repeat(127)} | head -c ${stalledLog}; exec sleep 1000000`;
    const id = await daemon.ok("run", "-d", "busybox", "sh", "-c", script);
    await done(id);
    using memory = await PeakMemory.of(daemon, [id]);
    for (const query of ["stdout=1&follow=1", "stdout=1"]) {
      const never = await times(followerCount, () =>
        answeredThenStalled(daemon.socket, "GET", `/containers/${id}/logs?${query}`),
      );
      await memory.settled();
      assert.equal(await daemon.ok("logs", "--tail=1", id), "x".repeat(127));
      for (const socket of never) {
        socket.destroy();
      }
    }
    t.diagnostic(String(memory));
    assert.deepEqual(memory.grownBeyond(bounds), []);
    await daemon.ok("rm", "--force", id);
  },
);

test(`${execCount} execs at once get every byte, beside some whose clients never read and some that vanish`, async (t) => {
  const id = await daemon.ok("run", "-d", "busybox", "sleep", "1000000");
  using memory = await PeakMemory.of(daemon, [id]);
  const start = async (...command: string[]) =>
    [daemon.socket, "POST", `/exec/${await createExec(daemon.socket, id, command)}/start`, {}] as const;
  const never = await times(10, async () => answeredThenStalled(...(await start("yes"))));
  const [received] = await Promise.all([
    times(execCount, async () => receive(...(await start("seq", "1", String(lineCount))))),
    times(20, async () => vanishing(await open(...(await start("yes"))))),
  ]);
  for (const each of received) {
    assert.deepEqual(each, expected);
  }
  for (const socket of never) {
    socket.destroy();
  }
  t.diagnostic(String(memory));
  assert.deepEqual(memory.grownBeyond(bounds), []);
  await daemon.ok("rm", "--force", id);
});

test("lines of 1 MiB and binary data are logged and told as they are", async (t) => {
  const make = "head -c 1048575 /dev/urandom | tr '\\n' x > /tmp/line; echo >> /tmp/line";
  const script = `${make}; for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do cat /tmp/line; done | tee /tmp/all; exec sleep 1000000`;
  const id = await daemon.ok("run", "-d", "busybox", "sh", "-c", script);
  const expectedSize = 16 * 1024 * 1024;
  await until(
    async () =>
      (await daemon.ok("exec", id, "sh", "-c", "wc -c < /tmp/all || true")).trim() === String(expectedSize) ||
      undefined,
  );
  using memory = await PeakMemory.of(daemon, [id]);
  const sha256 = (await daemon.ok("exec", id, "sha256sum", "/tmp/all")).split(" ")[0];
  const path = `/containers/${id}/logs?stdout=1`;
  await until(async () => (await receive(daemon.socket, "GET", path)).bytes === expectedSize || undefined);
  assert.deepEqual(await receive(daemon.socket, "GET", path), { bytes: expectedSize, sha256 });
  t.diagnostic(String(memory));
  assert.deepEqual(memory.grownBeyond(bounds), []);
  await daemon.ok("rm", "--force", id);
});

test("a container that writes more than max-size keeps the end of its log, within the size", async (t) => {
  const mebibytes = isSoak ? 2048 : 64;
  const written = (mebibytes * 1024 * 1024) / 128;
  const script = `awk 'BEGIN { for (n = 1; n <= ${written}; n++) printf "%0127d\\n", n }'; exec sleep 1000000`;
  const id = await daemon.ok(
    ...["run", "-d", "--log-opt", "max-size=10m", "--log-opt", "max-file=2", "busybox", "sh", "-c", script],
  );
  using memory = await PeakMemory.of(daemon, [id]);
  const log = join(daemon.stateDir, "containers", id, "log");
  const sizeOfLog = async (): Promise<number> => {
    const sizes = (await readdir(log)).map(
      async (name) => (await stat(join(log, name)).catch(() => undefined))?.size ?? 0,
    );
    return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
  };
  let largest = 0;
  const deadline = performance.now() + 300_000;
  while ((await daemon.ok("exec", id, "cat", "/proc/1/comm")) !== "sleep") {
    assert.ok(performance.now() < deadline, "the log is written in time");
    largest = Math.max(largest, await sizeOfLog());
  }
  largest = Math.max(largest, await sizeOfLog());
  assert.ok(largest > 0 && largest < 22 * 1024 * 1024, `the log has at most ${largest} bytes`);
  const kept = (await daemon.ok("logs", id)).split("\n").map(Number);
  assert.ok(kept.length * 128 > 9 * 1024 * 1024, `${kept.length} lines are kept`);
  assert.deepEqual(
    kept,
    Array.from(kept, (_, index) => written - kept.length + 1 + index),
  );
  t.diagnostic(`${mebibytes} MiB of log: ${memory}`);
  assert.deepEqual(memory.grownBeyond(bounds), []);
  await daemon.ok("rm", "--force", id);
});
