/** The backend's own disk is full while its containers run elsewhere: all of them are reached, ended and removed. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";

import { EcsDaemon } from "../support/ecs-daemon.ts";
import { killAndAwaitNext } from "../support/processes.ts";
import { SmallDisk } from "../support/small-disk.ts";
import { until } from "../support/until.ts";

const isFull = /no space left on device/i;

test("on a full disk tasks are listed, ended and removed, and what would be kept is refused", async () => {
  await using disk = await SmallDisk.mount({ sizeMib: 64 });
  await using under = await EcsDaemon.start({ daemon: { stateDir: join(disk.path, "sockerless") } });
  const { daemon } = under;
  const refused = async (...args: string[]) => {
    const { code, errorText } = await daemon.docker(...args);
    assert.notEqual(code, 0, args.join(" "));
    assert.match(errorText, isFull, args.join(" "));
  };
  const states = async () =>
    (await daemon.ok("ps", "--all", "--format", "{{.Names}} {{.State}}")).split("\n").toSorted();

  const script = "trap 'exit 3' TERM; echo said; while :; do usleep 10000; done";
  for (const name of ["removed", "stopped"]) {
    await daemon.ok("run", "--detach", `--name=${name}`, "busybox", "sh", "-c", script);
  }
  await daemon.ok("create", "--name=idle", "busybox", "ls", "/tmp/busybox");
  await disk.fillUpTo(0);

  await refused("cp", "/bin/busybox", "idle:/tmp/busybox");
  await refused("create", "--name=new", "busybox", "true");
  assert.deepEqual(await states(), ["idle created", "removed running", "stopped running"]);
  assert.equal(await daemon.ok("exec", "removed", "echo", "works"), "works");
  await daemon.ok("stop", "stopped");
  await daemon.ok("rm", "--force", "removed");
  await killAndAwaitNext(daemon, "backend");
  await until(async () => (await daemon.docker("ps")).code === 0 || undefined);
  assert.equal(await daemon.ok("inspect", "--format={{.State.ExitCode}}", "stopped"), "3");
  await daemon.ok("rm", "stopped");
  assert.deepEqual(await states(), ["idle created"]);

  await disk.empty();
  await until(
    async () => (await daemon.docker("cp", "/bin/busybox", "idle:/tmp/busybox")).code === 0 || undefined,
  );
  assert.equal(await daemon.ok("start", "--attach", "idle"), "/tmp/busybox");
});
