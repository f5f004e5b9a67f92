/** Volumes over the API: made once, filled once, mounted in every way, in use. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { backendUnderTest, onlyOn } from "../support/backend-under-test.ts";
import { type Creation, EngineApi } from "../support/engine-api.ts";
import { framesOf } from "../support/raw-client.ts";
import { assertDescribed } from "../support/swagger.ts";
import { withDaemon } from "../support/with-daemon.ts";

const setting = withDaemon();
const api = new EngineApi(() => setting.daemon.socket);

interface Volume {
  readonly Name: string;
  readonly Driver: string;
  readonly Labels: Readonly<Record<string, string>> | null;
}

const removeVolume = (name: string) => api.expect(204, "DELETE", `/volumes/${name}`);

/** What a script prints in a container with these mounts. */
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
    await api.refuses(404, /plugin "nfs" not found/, ...make, { Name: "other", Driver: "nfs" });
    await api.refuses(400, /includes invalid characters for a local volume name/, ...make, { Name: "-bad-" });
    const anonymous = await api.expect<Volume>(201, ...make, {});
    assert.match(anonymous.Name, /^[0-9a-f]{64}$/);
    await removeVolume("once");
    await removeVolume(anonymous.Name);
    await api.refuses(404, "get once: no such volume", "GET", "/volumes/once");
  });

  test("that a container names is there from its creation on, and stays", async () => {
    const id = await api.create({ Cmd: ["sleep", "1000"], HostConfig: { Binds: ["named:/data"] } });
    const { Volumes } = await api.expect<{ Volumes: Volume[] }>(200, "GET", "/volumes");
    assert.deepEqual(
      Volumes.map(({ Name }) => Name),
      ["named"],
    );
    if (backendUnderTest() === "ecs") {
      await api.start(id); // In use is what a task has.
    }
    await api.refuses(409, `remove named: volume is in use - [${id}]`, "DELETE", "/volumes/named");
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
    // What is in it already wins over the image.
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
    for (const Subpath of ["../..", "/etc", "out", "out/etc", "missing"]) {
      const answer = await api.call("POST", "/containers/create", {
        Image: "busybox",
        HostConfig: { NetworkMode: "none", ...part(Subpath) },
      });
      if (answer.status === 201) {
        const { Id } = answer.json() as { Id: string };
        assert.notEqual((await api.call("POST", `/containers/${Id}/start`)).status, 204, Subpath);
        await api.remove(Id);
      }
    }
    await removeVolume("parts");
  });

  test("of no name is the container's own, and goes with it where v=1 says so", async () => {
    const id = await api.create({ Volumes: { "/own": {} } });
    const { Mounts } = await api.inspect(id);
    assert.match(String(Mounts[0]?.["Name"]), /^[0-9a-f]{64}$/);
    await api.remove(id);
    const { Volumes } = await api.expect<{ Volumes: Volume[] }>(200, "GET", "/volumes");
    assert.deepEqual(Volumes, []);
  });

  test("that is none but memory has the size and mode that it is given", async () => {
    const tmpfs = { Type: "tmpfs", Target: "/scratch", TmpfsOptions: { SizeBytes: 1_048_576, Mode: 0o700 } };
    const text = await printed("grep ' /scratch ' /proc/mounts; stat -c %a /scratch", { Mounts: [tmpfs] });
    assert.match(text, /^tmpfs \/scratch tmpfs .*size=1024k/);
    assert.match(text, /\n700\n$/);
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
    await new EngineApi(() => setting.daemon.socket, "1.41").expect(200, "POST", "/volumes/prune");
    assert.deepEqual(await volumes(), []);
  });
});
