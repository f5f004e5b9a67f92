/** Volumes of the drivers block and tmpfs, by the docker CLI: whose they are, what is in them when, what is left of them. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rm, stat, symlink, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";

import { Daemon } from "../support/daemon.ts";
import { callApi } from "../support/call-api.ts";
import { findShim, killAndAwaitNext } from "../support/processes.ts";
import { mountsOf } from "../support/traces.ts";
import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";
import { inSoak } from "../support/soak.ts";

const { daemon, docker, ok } = withDaemon();

async function refused(pattern: RegExp, ...args: string[]): Promise<void> {
  const { code, errorText } = await docker(...args);
  assert.notEqual(code, 0, `docker ${args.join(" ")}`);
  assert.match(errorText, pattern);
}

/** Waits until no image of the daemon has a loop device, and nothing of its volumes is mounted. */
async function nothingMounted(): Promise<void> {
  await until(async () => (await mountsOf(daemon)).length === 0 || undefined);
}

interface Inspected {
  readonly Driver: string;
  readonly Mountpoint: string;
  readonly Options: Readonly<Record<string, string>> | null;
  readonly Labels: Readonly<Record<string, string>> | null;
  readonly Status?: Readonly<Record<string, string>>;
}

async function inspect(name: string): Promise<Inspected> {
  const [volume] = JSON.parse(await ok("volume", "inspect", name)) as Inspected[];
  assert.ok(volume !== undefined);
  return volume;
}

async function removeAll(): Promise<void> {
  const ids = (await ok("ps", "--all", "--quiet")).split("\n").filter((id) => id !== "");
  if (ids.length > 0) {
    await ok("rm", "--force", "--volumes", ...ids);
  }
  const names = (await ok("volume", "ls", "--quiet")).split("\n").filter((name) => name !== "");
  if (names.length > 0) {
    await ok("volume", "rm", ...names);
  }
  await nothingMounted();
}

afterEach(removeAll);

describe("a block volume", () => {
  test("is told with driver, options, labels, the image's path, format, size and owner", async () => {
    const made = await ok(
      ...["volume", "create", "--driver", "block", "--opt", "size=1G", "--label", "a=b", "mydb"],
    );
    assert.equal(made, "mydb");
    const told = await inspect("mydb");
    const image = `${daemon.stateDir}/volumes/mydb/volume.img`;
    assert.deepEqual(
      [told.Driver, told.Options, told.Labels, told.Mountpoint, told.Status],
      ["block", { size: "1G" }, { a: "b" }, image, { format: "ext4", size: String(2 ** 30) }],
    );
    const { size, blocks } = await stat(image);
    assert.equal(size, 2 ** 30);
    assert.ok(blocks * 512 < 2 ** 25, "it is sparse");
    const id = await ok("create", "--volume", "mydb:/data", "busybox");
    assert.equal((await inspect("mydb")).Status?.["owner"], id);
    assert.equal(await ok("volume", "ls", "--quiet", "--filter", "driver=block"), "mydb");
    assert.equal(await ok("volume", "ls", "--quiet", "--filter", "label=a=b"), "mydb");
    assert.equal(await ok("volume", "ls", "--quiet", "--filter", "driver=local"), "");
    assert.equal((await inspect("mydb")).Status?.["format"], "ext4");
    await ok("volume", "create", "plain");
    assert.deepEqual((await inspect("plain")).Status, { format: "dir" });
    assert.match(await ok("info", "--format", "{{json .Plugins.Volume}}"), /^\["local","block","tmpfs"\]$/);
  });

  test("has the configured size where none is asked for, and is refused where that makes no sense", async () => {
    await ok("volume", "create", "--driver", "block", "plain");
    assert.equal((await inspect("plain")).Status?.["size"], String(10 * 2 ** 30));
    const create = (...options: string[]) => [
      ...["volume", "create", "--driver", "block", ...options.flatMap((option) => ["--opt", option])],
      "bad",
    ];
    await refused(/create bad: invalid size: 'much': it is a number of bytes/, ...create("size=much"));
    await refused(/create bad: a size of 1MiB is out of bounds: it is at least 16MiB/, ...create("size=1M"));
    await refused(/invalid option: "type" \(block volumes have: size, fallocate\)/, ...create("type=nfs"));
    await refused(/fallocate=perhaps: it is true, false or full/, ...create("fallocate=perhaps"));
    await refused(/plugin "nfs" not found: .* local, block, tmpfs/, "volume", "create", "-d", "nfs", "bad");
    await refused(/no such volume/, "volume", "inspect", "bad");
    await ok("volume", "create", "--driver", "block", "--opt", "size=10240M", "plain");
    await refused(
      /create plain: the volume exists with 10GiB: remove it first, or choose another name/,
      ...["volume", "create", "--driver", "block", "--opt", "size=20G", "plain"],
    );
    await refused(/must be unique/, "volume", "create", "--driver", "tmpfs", "plain");
  });

  test("belongs to one container until that is removed, and keeps what is in it", async () => {
    await ok("volume", "create", "--driver", "block", "--opt", "size=64M", "mydb");
    const has = ["--volume", "mydb:/data", "--volume", "mydb:/again"];
    const script = 'test -z "$(ls -A /data)" && echo kept > /data/file && cat /again/file && sync';
    assert.equal(await ok("run", "--name", "db", ...has, "busybox", "sh", "-c", script), "kept");
    await nothingMounted();
    const inUse = /volume mydb is in use by container db \([0-9a-f]{12}\): .*--driver local/;
    await refused(inUse, "run", "--rm", ...has, "busybox", "true");
    await refused(inUse, "create", ...has, "busybox", "true");
    await refused(/use docker cp with db/, "run", "--volumes-from", "db", "busybox", "true");
    await refused(/volume is in use/, "volume", "rm", "--force", "mydb");
    await ok("rm", "db");
    assert.equal(
      await ok("run", "--name", "next", "--volume", "mydb:/data", "busybox", "cat", "/data/file"),
      "kept",
    );
  });

  test("goes to one of several clients that ask at once, and is never two's", async () => {
    await ok("volume", "create", "--driver", "block", "--opt", "size=64M", "mydb");
    const names = ["one", "two", "three"];
    const has = ["--volume", "mydb:/data", "busybox", "sleep", "1000000"];
    const succeeded = (outcomes: readonly { readonly code: number | null }[]) =>
      names.filter((_, n) => outcomes[n]?.code === 0);
    for (let round = 0; round < 3; round++) {
      const created = await Promise.all(names.map((name) => docker("create", "--name", name, ...has)));
      const [owner, ...others] = succeeded(created);
      assert.ok(owner !== undefined && others.length === 0, created.map((each) => each.errorText).join());
      // One client starts the owner, another removes it, a third would have its volume.
      const [, removed, next] = await Promise.all([
        docker("start", owner),
        docker("rm", "--force", owner),
        docker("run", "-d", "--name", "next", ...has),
      ]);
      assert.equal(removed.code, 0, removed.errorText);
      assert.ok(next.code === 0 || /volume mydb is in use by container/.test(next.errorText), next.errorText);
      assert.equal(await ok("ps", "--all", "--format={{.Names}}"), next.code === 0 ? "next" : "");
      await docker("rm", "--force", "next");
      assert.equal((await inspect("mydb")).Status?.["owner"], undefined);
      await nothingMounted();
    }
  });

  test("is not to be had by its path, which binds and options of others name", async () => {
    await ok("volume", "create", "--driver", "block", "--opt", "size=64M", "mydb");
    const data = `${daemon.stateDir}/volumes/mydb/_data`;
    const directory = await mkdtemp(join(tmpdir(), "skl-volumes-"));
    const link = join(directory, "link");
    await symlink(data, link);
    const refusal = /is in volume mydb: one of the driver block belongs to one container .*--volume mydb:/;
    for (const source of [data, link, `${data}/..`, `${link}/new`]) {
      await refused(refusal, "create", "--volume", `${source}:/data`, "busybox");
      await refused(
        refusal,
        "volume",
        "create",
        ...["type=none", "o=bind", `device=${source}`].flatMap((o) => ["--opt", o]),
      );
      await refused(
        refusal,
        "volume",
        "create",
        ...["type=overlay", "device=overlay", `o=lowerdir=/etc:${source}`].flatMap((o) => ["--opt", o]),
      );
    }
    await refused(refusal, "create", "--mount", `type=bind,source=${link},target=/data`, "busybox");
    assert.equal(await ok("ps", "--all", "--quiet"), "");
    await rm(link);
    await mkdir(link);
    await ok("create", "--name", "late", "--volume", `${link}:/data`, "busybox", "true");
    await rm(link, { recursive: true });
    await symlink(data, link);
    await refused(refusal, "start", "late");
    await refused(refusal, "cp", "late:/data", "-");
    await nothingMounted();
    await rm(directory, { recursive: true });
  });

  test("is saved and brought back by docker cp, whether its owner runs or not", async () => {
    await ok("run", "--name", "db", "--volume", "mydb:/data", "--volume-driver", "block", "busybox", "true");
    const directory = await mkdtemp(join(tmpdir(), "skl-volumes-"));
    const file = join(directory, "file");
    await writeFile(file, "one");
    await ok("cp", file, "db:/data/");
    await nothingMounted();
    await ok("rm", "db");
    await ok("run", "-d", "--name", "db", "--volume", "mydb:/data", "busybox", "sleep", "1000000");
    await ok("cp", "db:/data/file", `${file}.copy`);
    assert.equal(await readFile(`${file}.copy`, "utf8"), "one");
    await writeFile(file, "two");
    await ok("cp", file, "db:/data/");
    assert.equal(await ok("exec", "db", "cat", "/data/file"), "two");
    await rm(directory, { recursive: true });
  });

  test("takes the image's content, as any new volume", async () => {
    await ok("volume", "create", "--driver", "block", "--opt", "size=64M", "filled");
    assert.equal(await ok("run", "--rm", "--volume", "filled:/var", "busybox", "ls", "/var"), "tmp");
    assert.equal(await ok("run", "--rm", "--volume", "filled:/var:ro", "busybox", "ls", "/var"), "tmp");
  });

  test("outlives the host process and the shim of its owner, whole and once", async () => {
    await ok("volume", "create", "--driver", "block", "--opt", "size=64M", "mydb");
    const id = await ok("run", "-d", "--name", "db", "--volume", "mydb:/data", "busybox", "sleep", "1000000");
    const mounted = await mountsOf(daemon);
    await killAndAwaitNext(daemon, "host");
    await ok("exec", "db", "sh", "-c", "echo in > /data/file");
    assert.deepEqual(await mountsOf(daemon), mounted);
    const shim = findShim(daemon, id);
    assert.ok(shim !== undefined);
    process.kill(shim, "SIGKILL");
    assert.equal(await ok("wait", "db"), "255");
    await nothingMounted();
    await refused(/in use by container db/, "create", "--volume", "mydb:/data", "busybox");
    await ok("rm", "db");
    assert.equal(await ok("run", "--rm", "--volume", "mydb:/data", "busybox", "cat", "/data/file"), "in");
  });

  test("is told with the bytes that it takes by df, and with its size by inspect", async () => {
    await ok("volume", "create", "--driver", "block", "--opt", "size=1G", "mydb");
    await ok(
      ...["run", "--volume", "mydb:/data", "busybox", "dd", "if=/dev/urandom", "of=/data/x", "bs=1M"],
      "count=20",
    );
    await nothingMounted();
    const { Status, Mountpoint } = await inspect("mydb");
    const answer = await callApi(daemon.socket, "GET", "/v1.51/system/df?type=volume");
    const { Volumes } = answer.json() as {
      Volumes: readonly { Name: string; UsageData: { RefCount: number; Size: number } }[];
    };
    const [told, ...others] = Volumes;
    assert.deepEqual([told?.Name, told?.UsageData.RefCount, others], ["mydb", 1, []]);
    assert.equal(told?.UsageData.Size, (await stat(Mountpoint)).blocks * 512);
    assert.ok(told.UsageData.Size > 20 * 2 ** 20 && told.UsageData.Size < 64 * 2 ** 20);
    assert.equal(Status?.["size"], String(2 ** 30));
  });

  test("that is full is its container's matter alone", async () => {
    await ok("volume", "create", "--driver", "block", "--opt", "size=32M", "small");
    const fill = "dd if=/dev/zero of=/data/file bs=1M count=64; rm /data/file; sync";
    const { errorText } = await docker("run", "--rm", "--volume", "small:/data", "busybox", "sh", "-c", fill);
    assert.match(errorText, /No space left on device/);
    await nothingMounted();
    const { blocks } = await stat((await inspect("small")).Mountpoint);
    assert.ok(blocks * 512 < 2 ** 24, "what was deleted has gone back");
  });

  test("that is damaged is refused by name, and left as it is", async () => {
    await ok("volume", "create", "--driver", "block", "--opt", "size=32M", "mydb");
    const { Mountpoint } = await inspect("mydb");
    await truncate(Mountpoint, 0);
    await truncate(Mountpoint, 32 * 2 ** 20);
    await ok("create", "--name", "db", "--volume", "mydb:/data", "busybox", "true");
    await refused(
      /volume mydb is damaged: it has no EXT4 superblock .*e2fsck -f .*volume\.img/,
      "start",
      "db",
    );
    assert.equal((await stat(Mountpoint)).blocks, 0);
  });

  test(
    "is measured, pruned and known after a restart of the daemon, as volumes of any driver",
    inSoak,
    async () => {
      for (const [driver, name] of [
        ["local", "one"],
        ["block", "two"],
        ["tmpfs", "three"],
      ] as const) {
        await ok("volume", "create", "--driver", driver, name);
        await ok("create", "--name", `of-${name}`, "--volume", `${name}:/data`, "busybox", "true");
      }
      await ok(
        "run",
        "-d",
        "--name",
        "lasting",
        "--volume",
        "lasts:/data",
        "--volume-driver",
        "block",
        ...["busybox", "sleep", "1000000"],
      );
      await daemon.shutDown();
      await daemon.launch();
      assert.equal(await ok("exec", "lasting", "sh", "-c", "echo in > /data/file && cat /data/file"), "in");
      await refused(/is in use by container of-two/, "create", "--volume", "two:/data", "busybox");
      const df = await ok("system", "df", "--verbose", "--format", "{{json .Volumes}}");
      for (const name of ["one", "two", "three", "lasts"]) {
        assert.match(df, new RegExp(`"Name":"${name}"`));
      }
      await ok("rm", "of-one", "of-two", "of-three");
      const pruned = await ok("volume", "prune", "--all", "--force");
      for (const name of ["one", "two", "three"]) {
        assert.match(pruned, new RegExp(`^${name}$`, "m"));
      }
      assert.equal(await ok("volume", "ls", "--quiet"), "lasts");
    },
  );
});

test("a block volume that is made without a size has the configured one", async () => {
  await using daemon = await Daemon.start({ args: ["--block-volume-size", "48M"] });
  await daemon.ok("volume", "create", "--driver", "block", "mydb");
  const format = "--format={{.Status.size}}";
  assert.equal(await daemon.ok("volume", "inspect", format, "mydb"), String(48 * 2 ** 20));
  await daemon.ok("volume", "rm", "mydb");
});

describe("a volume of any driver", () => {
  for (const driver of ["local", "block", "tmpfs"]) {
    test(`${driver}: is filtered, known by its labels after a restart, and removed unless it is used`, async () => {
      const labels = ["--label", `kind=${driver}`];
      await ok("volume", "create", "--driver", driver, ...labels, "kept");
      await ok("volume", "create", "--driver", driver, "other");
      await ok("run", "--name", "user", "--volume", "kept:/data", "busybox", "true");
      await daemon.shutDown();
      await daemon.launch();
      const listed = (...filters: string[]) =>
        ok("volume", "ls", "--quiet", ...filters.map((filter) => `--filter=${filter}`));
      assert.equal(await listed(`driver=${driver}`, `label=kind=${driver}`), "kept");
      assert.equal(await listed(`driver=${driver}`, "dangling=true"), "other");
      assert.equal(await listed("name=oth"), "other");
      assert.deepEqual((await inspect("kept")).Labels, { kind: driver });
      for (const force of [[], ["--force"]]) {
        await refused(/volume is in use/, "volume", "rm", ...force, "kept");
      }
      await ok("rm", "user");
      await ok("volume", "rm", "other");
      await refused(/no such volume/, "volume", "rm", "other");
      await ok("volume", "rm", "--force", "kept");
      await ok("volume", "rm", "--force", "kept");
      assert.equal(await listed(), "");
    });
  }
});

describe("a tmpfs volume", () => {
  beforeEach(() => ok("volume", "create", "--driver", "tmpfs", "--opt", "size=1m", "memory"));

  test("is shared by those that run, and gone with the last", async () => {
    const run = (name: string) =>
      ok("run", "-d", "--name", name, "--volume", "memory:/data", "busybox", "sleep", "1000000");
    await run("one");
    await run("two");
    await ok("exec", "one", "sh", "-c", "echo in > /data/file");
    assert.equal(await ok("exec", "two", "cat", "/data/file"), "in");
    assert.match(
      await ok("exec", "two", "grep", " /data ", "/proc/mounts"),
      /^tmpfs \/data tmpfs .*size=1024k/,
    );
    await ok("rm", "-f", "one");
    assert.equal(await ok("exec", "two", "cat", "/data/file"), "in");
    await ok("stop", "-t", "0", "two");
    await nothingMounted();
    await ok("start", "two");
    assert.equal(await ok("exec", "two", "ls", "/data"), "");
    assert.equal((await inspect("memory")).Status?.["lifetime"], "until no running container has it");
  });

  test("has the kernel's options, and is refused with others", async () => {
    const create = (option: string) => ["volume", "create", "--driver", "tmpfs", "--opt", option, "bad"];
    await refused(/invalid option: "device"/, ...create("device=x"));
    await refused(/create bad: .*size=much/, ...create("size=much"));
  });
});
