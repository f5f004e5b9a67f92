/** A disk that fills up below a volume which may yet grow: told before anything is lost, once, and what was synced is kept. */
import assert from "node:assert/strict";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";

import { runCommand } from "../support/command.ts";
import { Daemon } from "../support/daemon.ts";
import { SmallDisk } from "../support/small-disk.ts";
import { mountsOf } from "../support/traces.ts";
import { until } from "../support/until.ts";
import { inSoak } from "../support/soak.ts";

interface LowSpace {
  readonly Type: string;
  readonly Actor: { readonly ID: string; readonly Attributes: Readonly<Record<string, string>> };
}

test("a disk that has less room than a block volume may yet take is told of in events and log", async () => {
  await using disk = await SmallDisk.mount({ sizeMib: 160 });
  await using daemon = await Daemon.startWithBusybox({ stateDir: join(disk.path, "sockerless") });
  await daemon.ok("volume", "create", "--driver", "block", "--opt", "size=64M", "data");
  await daemon.ok("run", "--detach", "--name", "db", "--volume", "data:/data", "busybox", "sleep", "1000000");
  const since = Math.floor(Date.now() / 1000) - 3600;
  const told = async (): Promise<readonly LowSpace[]> => {
    const now = String(Math.ceil(Date.now() / 1000));
    const filters = ["--filter=type=volume", "--filter=event=low_space", "--format={{json .}}"];
    const text = await daemon.ok("events", `--since=${since}`, `--until=${now}`, ...filters);
    return text.split("\n").flatMap((line) => (line === "" ? [] : [JSON.parse(line) as LowSpace]));
  };
  assert.deepEqual(await told(), []);

  await writeFile(join(disk.path, "ballast"), Buffer.alloc((await disk.available()) - 40 * 2 ** 20));
  const [event, ...others] = await until(async () => {
    const events = await told();
    return events.length > 0 ? events : undefined;
  });
  assert.ok(event !== undefined && others.length === 0);
  assert.deepEqual(
    [event.Type, event.Actor.ID, event.Actor.Attributes["driver"]],
    ["volume", "data", "block"],
  );
  const { free, growth } = event.Actor.Attributes;
  assert.ok(Number(growth) > Number(free) && Number(growth) <= 64 * 2 ** 20, `${growth} of ${free}`);
  const logged = /less room than volumes on it may yet take.*"volume":"data"|"volume":"data".*less room/;
  await until(() => logged.test(daemon.output) || undefined);

  // It is mounted anew, sooner than its room is looked at again.
  await daemon.ok("restart", "--time", "0", "db");
  await until(async () => (await told()).length === 2 || undefined);

  await daemon.ok("rm", "--force", "db");
  await daemon.ok("volume", "rm", "data");
  await rm(join(disk.path, "ballast"));
});

test(
  "a disk that was full below a block volume costs what it refused, and nothing that was synced",
  inSoak,
  async () => {
    await using disk = await SmallDisk.mount({ sizeMib: 160 });
    await using daemon = await Daemon.startWithBusybox({ stateDir: join(disk.path, "sockerless") });
    await daemon.ok("volume", "create", "--driver", "block", "--opt", "size=96M", "data");
    await daemon.ok(
      ...["run", "--detach", "--name", "db", "--volume", "data:/data", "busybox", "sleep", "1000000"],
    );
    const write = (file: string, mib: number) =>
      daemon.docker(
        ...["exec", "db", "dd", "if=/dev/urandom", `of=/data/${file}`, "bs=1M", `count=${mib}`, "conv=fsync"],
      );
    assert.equal((await write("kept", 8)).code, 0);
    const sum = await daemon.ok("exec", "db", "sha256sum", "/data/kept");

    await disk.fillUpTo(4 * 1024);
    const refused = await write("lost", 32);
    assert.notEqual(refused.code, 0);
    assert.match(refused.errorText, /No space left on device|Input\/output error|Read-only file system/);
    assert.equal(await daemon.ok("exec", "db", "sha256sum", "/data/kept"), sum);

    await disk.empty();
    await daemon.ok("restart", "--time", "0", "db");
    assert.equal(await daemon.ok("exec", "db", "sha256sum", "/data/kept"), sum);
    assert.equal((await write("next", 8)).code, 0);
    await daemon.ok("rm", "--force", "db");
    await until(async () => (await mountsOf(daemon)).length === 0 || undefined);
    const { code, text } = await runCommand("e2fsck", [
      "-fn",
      join(daemon.stateDir, "volumes/data/volume.img"),
    ]);
    assert.equal(code, 0, text);
    await daemon.ok("volume", "rm", "data");
  },
);
