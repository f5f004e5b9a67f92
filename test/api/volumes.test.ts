/** Volumes over the API: made once, filled once, mounted in every way, in use. */
import assert from "node:assert/strict";
import { mkdir, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";

import { backendUnderTest, notOn, onlyOn } from "../support/backend-under-test.ts";
import { type Creation, EngineApi } from "../support/engine-api.ts";
import { framesOf } from "../support/raw-client.ts";
import { assertDescribed } from "../support/swagger.ts";
import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, api } = withDaemon();

interface Volume {
  readonly Name: string;
  readonly Driver: string;
  readonly Labels: Readonly<Record<string, string>> | null;
}

const removeVolume = (name: string) => api.expect(204, "DELETE", `/volumes/${name}`);

/** Runs a script in a container with these mounts, and returns what it prints. */
async function printed(script: string, HostConfig: object, more: Creation = {}): Promise<string> {
  const id = await api.script(script, { ...more, HostConfig });
  await api.wait(id);
  const log = await api.call("GET", `/containers/${id}/logs?stdout=1&stderr=1`);
  await api.remove(id);
  return framesOf(log.bytes)
    .map(({ data }) => data.toString())
    .join("");
}

describe("a volume", () => {
  test("is made once, however often it is asked for, by one driver", async () => {
    const make = ["POST", "/volumes/create"] as const;
    const first = await api.expect<Volume>(201, ...make, { Name: "once", Labels: { a: "b" } });
    assertDescribed("post", "/volumes/create", 201, first);
    assert.deepEqual(await api.expect(201, ...make, { Name: "once", Labels: { c: "d" } }), first);
    const drivers = {
      local: "local\\b.*",
      ecs: "local, efs",
      aca: "azure-files",
      kubernetes: "local, block",
    };
    await api.refuses(
      404,
      new RegExp(`plugin "nfs" not found: the volume drivers here are ${drivers[backendUnderTest()]}$`),
      ...make,
      { Name: "other", Driver: "nfs" },
    );
    await api.refuses(400, /includes invalid characters for a local volume name/, ...make, { Name: "-bad-" });
    const anonymous = await api.expect<Volume>(201, ...make, {});
    assert.match(anonymous.Name, /^[0-9a-f]{64}$/);
    await removeVolume("once");
    await removeVolume(anonymous.Name);
    await api.refuses(404, "get once: no such volume", "GET", "/volumes/once");
  });

  test("has options that mean something together, or is refused", {
    skip: onlyOn("local", "the options of volumes are those of access points"),
  }, async () => {
    for (const [given, missing] of [
      ["type", "device"],
      ["device", "type"],
      ["o", "device"],
    ] as const) {
      await api.refuses(
        400,
        `create half: missing required option: "${missing}"`,
        "POST",
        "/volumes/create",
        {
          Name: "half",
          DriverOpts: { [given]: "tmpfs" },
        },
      );
    }
  });

  test("shows what its options have mounted while a container has it, as Docker's driver local does", {
    skip: onlyOn("local", "the options of volumes are those of access points"),
  }, async () => {
    const device = join(daemon.directory, "source");
    await mkdir(device);
    const make = (Name: string, DriverOpts: Record<string, string>) =>
      api.expect<Volume & { Options: object; Mountpoint: string }>(201, "POST", "/volumes/create", {
        Name,
        DriverOpts,
      });
    const options = { type: "none", o: "bind", device };
    const { Mountpoint, Options } = await make("bound", options);
    assert.deepEqual(Options, options);
    assert.equal(await printed("echo in > /data/file", { Binds: ["bound:/data"] }), "");
    assert.equal(await readFile(join(device, "file"), "utf8"), "in\n");
    await until(async () => (await readdir(Mountpoint)).length === 0 || undefined);

    await make("memory", { type: "tmpfs", device: "tmpfs", o: "size=1m" });
    const mounts = await printed("grep ' /data ' /proc/mounts", { Binds: ["memory:/data"] });
    assert.match(mounts, /^tmpfs \/data tmpfs .*size=1024k/);

    const { Mountpoint: nowhere } = await make("nowhere", { type: "none", o: "bind", device: "/missing" });
    const id = await api.create({ HostConfig: { Binds: ["nowhere:/data"] } });
    await api.refuses(
      500,
      `error while mounting volume '${nowhere}': failed to mount local volume: mount /missing:${nowhere}, flags: 0x1000: no such file or directory`,
      "POST",
      `/containers/${id}/start`,
    );
    await api.remove(id);
    // A volume whose content is elsewhere takes no space here, and is removed only by name.
    const df = await api.expect<{ Volumes: Volume[] }>(200, "GET", "/system/df?type=volume");
    assert.ok(!df.Volumes.some(({ Name }) => Name === "bound"));
    const all = encodeURIComponent('{"all":["true"]}');
    const pruned = await api.expect<{ VolumesDeleted: string[] }>(
      200,
      "POST",
      `/volumes/prune?filters=${all}`,
    );
    assert.ok(!pruned.VolumesDeleted.includes("bound"));
    for (const name of ["bound", "memory", "nowhere"]) {
      await removeVolume(name);
    }
    assert.equal(await readFile(join(device, "file"), "utf8"), "in\n");
  });

  test("that a container names is there from its creation on, and stays", async () => {
    const id = await api.create({ Cmd: ["sleep", "1000"], HostConfig: { Binds: ["named:/data"] } });
    const { Volumes } = await api.expect<{ Volumes: Volume[] }>(200, "GET", "/volumes");
    assert.deepEqual(
      Volumes.map(({ Name }) => Name),
      ["named"],
    );
    if (backendUnderTest() !== "local") {
      await api.start(id); // In use is what a task has.
    }
    const inUse =
      backendUnderTest() === "aca" ? "volume is in use" : `remove named: volume is in use - [${id}]`;
    await api.refuses(409, inUse, "DELETE", "/volumes/named");
    await api.remove(id);
    await removeVolume("named");
  });

  test("that is new takes the image's content at its path, unless it is told not to", {
    skip: onlyOn("local", "what a task mounts hides the image's content from the start"),
  }, async () => {
    const list = "ls /var";
    assert.equal(await printed(list, { Binds: ["filled:/var"] }), "tmp\n");
    assert.equal(await printed(list, { Binds: ["empty:/var:nocopy"] }), "");
    const mount = { Type: "volume", Source: "empty-too", Target: "/var", VolumeOptions: { NoCopy: true } };
    assert.equal(await printed(list, { Mounts: [mount] }), "");
    // Files that are in it already win over the image's.
    await printed("rm -r /data/*; echo own > /data/file", { Binds: ["filled:/data"] });
    assert.equal(await printed(list, { Binds: ["filled:/var"] }), "file\n");
    for (const name of ["filled", "empty", "empty-too"]) {
      await removeVolume(name);
    }
  });

  test("is mounted for reading only, in both forms", async () => {
    for (const HostConfig of [
      { Binds: ["shared:/data:ro"] },
      { Mounts: [{ Type: "volume", Source: "shared", Target: "/data", ReadOnly: true }] },
    ]) {
      assert.match(await printed("touch /data/file", HostConfig), /Read-only file system/);
    }
    await removeVolume("shared");
  });

  test("is mounted in part, and never by more than that", async () => {
    await printed("mkdir -p /data/sub/deep && echo in > /data/sub/file && ln -s / /data/out", {
      Binds: ["parts:/data"],
    });
    const part = (Subpath: string) => ({
      Mounts: [{ Type: "volume", Source: "parts", Target: "/part", VolumeOptions: { Subpath } }],
    });
    assert.equal(await printed("cat /part/file", part("sub")), "in\n");
    const other = await api.create({ HostConfig: part("./sub/") });
    assert.equal(await printed("cat /part/file", { VolumesFrom: [other] }), "in\n");
    await api.remove(other);
    for (const Subpath of ["../..", "/etc"]) {
      await api.refuses(
        400,
        /subpath must be a relative path within the volume/,
        "POST",
        "/containers/create",
        {
          Image: "busybox",
          HostConfig: part(Subpath),
        },
      );
    }
    for (const [Subpath, reason] of [
      ["out", /path concatenation escapes the base directory/],
      // Azure makes it, and so does the kubelet.
      ...(["aca", "kubernetes"].includes(backendUnderTest())
        ? []
        : [["missing", /cannot access path .*missing/] as const]),
      // An access point of EFS is not so deep: the creation is refused there.
      ...(backendUnderTest() === "local"
        ? [["out/etc", /path concatenation escapes the base directory/] as const]
        : []),
    ] as const) {
      const Id = await api.create({ HostConfig: part(Subpath) });
      const refused = await api.call("POST", `/containers/${Id}/start`);
      assert.notEqual(refused.status, 204, Subpath);
      if (backendUnderTest() === "local") {
        assert.match(refused.text, reason);
      }
      await api.remove(Id);
    }
    await removeVolume("parts");
  });

  test("shows a file of it alone", { skip: onlyOn("local", "an access point is a directory") }, async () => {
    await printed("echo in > /data/file", { Binds: ["parts:/data"] });
    const Mounts = [{ Type: "volume", Source: "parts", Target: "/part", VolumeOptions: { Subpath: "file" } }];
    assert.equal(await printed("cat /part", { Mounts }), "in\n");
    await removeVolume("parts");
  });

  test("that is another container's is taken as it is, and goes with the last of them if it has no name", async () => {
    const donor = await api.create({
      Volumes: { "/var/spool": {} },
      HostConfig: { Binds: ["kept:/etc:nocopy"] },
    });
    const names = (await api.inspect(donor)).Mounts.map((mount) => String(mount["Name"]));
    const taker = await api.create({ HostConfig: { VolumesFrom: [donor] } });
    await api.expect(204, "DELETE", `/containers/${donor}`);
    const exists = async () =>
      (await api.expect<{ Volumes: Volume[] | null }>(200, "GET", "/volumes")).Volumes?.map(
        ({ Name }) => Name,
      ) ?? [];
    assert.deepEqual((await exists()).toSorted(), names.toSorted());
    await api.expect(204, "DELETE", `/containers/${taker}?v=1`);
    assert.deepEqual(await exists(), ["kept"]);
    await removeVolume("kept");
  });

  test("of no name that another container has is not filled by who takes it", {
    skip: onlyOn("local", "a volume is filled by its first task"),
  }, async () => {
    const donor = await api.create({ Volumes: { "/empty": {} } });
    await daemon.ok("run", "--name", "maker", "busybox", "sh", "-c", "mkdir /empty && touch /empty/file");
    await daemon.ok("commit", "maker", "filling");
    const printedFrom = (HostConfig: object) => printed("ls /empty", HostConfig, { Image: "filling" });
    assert.equal(await printedFrom({ VolumesFrom: [donor] }), "");
    assert.equal(await printedFrom({}), "file\n");
    await api.remove(donor, "maker");
  });

  test("has the modes of a volume, and a bind has not", async () => {
    const refuses = (bind: string, message: string | RegExp) =>
      api.refuses(400, message, "POST", "/containers/create", {
        Image: "busybox",
        HostConfig: { Binds: [bind] },
      });
    await refuses("v:/x:copy", "invalid mode: copy");
    await refuses("v:/x:nocopy,nocopy", "invalid mode: nocopy,nocopy");
    await refuses("v:/x:rslave", /field BindOptions must not be specified/);
    await refuses("/tmp:/x:nocopy", /field VolumeOptions must not be specified/);
    await refuses("/tmp:/x:ro,rw", "invalid mode: ro,rw");
  });

  test("of no name is the container's own, and goes with it where v=1 says so", async () => {
    const id = await api.create({ Volumes: { "/own": {} } });
    const { Mounts } = await api.inspect(id);
    assert.match(String(Mounts[0]?.["Name"]), /^[0-9a-f]{64}$/);
    await api.remove(id);
    const { Volumes } = await api.expect<{ Volumes: Volume[] }>(200, "GET", "/volumes");
    assert.deepEqual(Volumes, []);
  });

  test("that is none but memory has the size and mode that it is given", {
    skip: notOn("aca", "a job's is a directory on its disk, which the creation's warning says"),
  }, async () => {
    const tmpfs = { Type: "tmpfs", Target: "/scratch", TmpfsOptions: { SizeBytes: 1_048_576, Mode: 0o700 } };
    const text = await printed("grep ' /scratch ' /proc/mounts; stat -c %a /scratch", { Mounts: [tmpfs] });
    assert.match(text, /^tmpfs \/scratch tmpfs .*size=1024k/);
    // A pod's has no mode of its own, which the creation's warning says.
    assert.match(text, backendUnderTest() === "kubernetes" ? /\n1777\n$/ : /\n700\n$/);
  });

  test("is pruned where it is anonymous, or with all, or by an older client", async () => {
    const volumes = async () =>
      (await api.expect<{ Volumes: Volume[] }>(200, "GET", "/volumes")).Volumes.map(({ Name }) => Name);
    await api.expect(201, "POST", "/volumes/create", { Name: "named" });
    await api.expect(201, "POST", "/volumes/create", {});
    await api.expect(200, "POST", "/volumes/prune");
    assert.deepEqual(await volumes(), ["named"]);
    await api.expect(200, "POST", `/volumes/prune?filters=${encodeURIComponent('{"all":["true"]}')}`);
    assert.deepEqual(await volumes(), []);
    await api.expect(201, "POST", "/volumes/create", { Name: "named" });
    await new EngineApi(() => daemon.socket, "1.41").expect(200, "POST", "/volumes/prune");
    assert.deepEqual(await volumes(), []);
  });
});
