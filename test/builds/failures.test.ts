/** Builds on a machine that fails them: a disk that is full, a backend that restarts. Nothing is left behind. */
import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import { build, built, compileBuilder } from "../support/builds.ts";
import { buildLimitMs } from "../support/command.ts";
import { Daemon } from "../support/daemon.ts";
import { callApi } from "../support/call-api.ts";
import { killAndAwaitNext, processOf } from "../support/processes.ts";
import { SmallDisk } from "../support/small-disk.ts";
import { until, untilTrue } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

before(compileBuilder, { timeout: buildLimitMs });

const ofBuilds = ["--quiet", "--filter", "label=sockerless.build"];

describe("a build on a disk that is full", () => {
  let disk: SmallDisk;
  let daemon: Daemon;
  before(async () => {
    disk = await SmallDisk.mount({ sizeMib: 96 });
    daemon = await Daemon.startWithBusybox({ stateDir: join(disk.path, "sockerless") });
    await built(daemon.socket, "FROM busybox\nRUN true\n");
  });
  after(async () => {
    await disk.empty();
    await daemon.stop();
    await disk[Symbol.asyncDispose]();
  });

  /** Fails a build, after which its room is free again and the next one is built. */
  async function assertRefused(
    dockerfile: string,
    leftKib: number,
    options: Parameters<typeof build>[2] = {},
  ): Promise<void> {
    await disk.fillUpTo(leftKib);
    const free = await disk.available();
    const { error, text } = await build(daemon.socket, dockerfile, options);
    assert.match(`${text}${error?.message ?? ""}`, /no space left on device/i);
    assert.notEqual(error, undefined);
    await untilTrue(async () => (await disk.available()) >= free - 2 * 1024 * 1024);
    assert.equal(await daemon.ok("ps", "--all", ...ofBuilds), "");
    await untilTrue(async () => (await readdir(join(daemon.stateDir, "builder/scratch"))).length === 0);
    await disk.empty();
    await built(daemon.socket, "FROM busybox\nRUN true\n", { query: { nocache: "1" } });
  }

  test("tells so when a step writes, and leaves nothing of it", async () => {
    await assertRefused("FROM busybox\nRUN dd if=/dev/zero of=/x bs=1M count=32\n", 16 * 1024);
  });

  test("tells so when a step's layer does not fit beside the step's files", async () => {
    await assertRefused("FROM busybox\nRUN dd if=/dev/urandom of=/x bs=1M count=16\n", 24 * 1024);
  });

  test("tells so when its context does not fit", async () => {
    const files = [{ name: "large", content: Buffer.alloc(32 * 1024 * 1024, "x") }];
    await assertRefused("FROM busybox\nCOPY large /\n", 16 * 1024, { files });
  });

  test("tells so when the layer of a COPY does not fit", async () => {
    const files = [{ name: "large", content: Buffer.alloc(16 * 1024 * 1024, "x") }];
    await assertRefused("FROM busybox\nCOPY large /\n", 24 * 1024, { files });
  });
});

describe("a build whose backend is killed", () => {
  const { daemon, ok } = withDaemon();
  const step = () => until(async () => (await ok("ps", ...ofBuilds)) || undefined);

  test("goes on with its step, which the backend does not have to be there for", async () => {
    const answer = build(
      daemon.socket,
      "FROM busybox\nRUN until test -e /tmp/go; do sleep 0.1; done; echo said\n",
    );
    // The builder waits for its start then, or for its output, or for its end.
    const id = await step();
    await killAndAwaitNext(daemon, "backend");
    await untilTrue(async () => (await daemon.docker("exec", "--detach", id, "touch", "/tmp/go")).code === 0);
    const { text, error } = await answer;
    assert.equal(error, undefined, text);
    assert.match(text, /\nsaid\n/);
    assert.equal(await ok("ps", "--all", ...ofBuilds), "");
  });

  test("and that is cancelled then, takes its container along once there is a backend again", async () => {
    const query = { buildid: "cut", nocache: "1" };
    const answer = build(daemon.socket, "FROM busybox\nRUN sleep 1000\n", { query });
    await step();
    const backend = await processOf(daemon, "backend");
    process.kill(backend, "SIGKILL");
    assert.equal((await callApi(daemon.socket, "POST", "/build/cancel?id=cut")).status, 200);
    assert.match((await answer).error?.message ?? "", /^build canceled$/);
    await untilTrue(async () => {
      const { code, text } = await daemon.docker("ps", "--all", ...ofBuilds);
      return code === 0 && text === "";
    });
  });
});
