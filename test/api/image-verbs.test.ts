/** Images and space through the real docker CLI: save, push, prune, system df. */
import assert from "node:assert/strict";

import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { runCommand } from "../support/command.ts";
import { backendUnderTest, onlyOn, quickestNetwork } from "../support/backend-under-test.ts";
import { callApi } from "../support/call-api.ts";
import { Dockerd } from "../support/dockerd.ts";
import { busyboxArchiveFile, busyboxImage, legacyArchive } from "../support/images.ts";
import { registryUser, TestRegistry } from "../support/registry.ts";
import { assertDescribed } from "../support/swagger.ts";
import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, docker, ok } = withDaemon();
const call = (method: string, path: string) => callApi(daemon.socket, method, path);

/** An image with a layer of its own over busybox's. */
async function made(name: string, content: string): Promise<string> {
  await ok("run", "--name", "maker", "busybox", "sh", "-c", `echo ${content} > /content`);
  const id = await ok("commit", "--change", 'CMD ["cat", "/content"]', "maker", name);
  await ok("rm", "maker");
  return id;
}

/** Configurations and layers are of the image's time, the documents beside them of 1970. */
async function hasDates(archive: Buffer, image: string): Promise<void> {
  const listing = await runCommand("tar", ["-tv", "--utc", "--full-time"], { input: archive });
  const dates = new Map(
    listing.text.split("\n").map((line) => {
      const [, , , day, time, name] = line.split(/\s+/);
      return [name ?? "", `${day}T${time}Z`] as const;
    }),
  );
  const inspected = await ok("inspect", "-f", "{{.Id}} {{.Created}} {{json .RootFS.Layers}}", image);
  const [id = "", created = "", layers = ""] = inspected.split(" ");
  const second = created.replace(/\.\d+/, "");
  const top = (JSON.parse(layers) as string[]).at(-1) ?? "";
  for (const [name, date] of [
    [blobOf(id), second],
    [blobOf(top), second],
    ["manifest.json", "1970-01-01T00:00:00Z"],
    ["blobs/sha256/", "1970-01-01T00:00:00Z"],
  ] as const) {
    assert.equal(dates.get(name), date, name);
  }
}

function blobOf(digest: string): string {
  return digest.replace("sha256:", "blobs/sha256/");
}

describe("docker save", () => {
  test("gives back the same images under all their names, and shares layers", async () => {
    const id = await made("kept:1", "one");
    await ok("tag", "kept:1", "kept:2");
    const saved = await docker("save", "kept", "busybox");
    assert.equal(saved.code, 0, saved.errorText);
    const names = (await runCommand("tar", ["-t"], { input: saved.stdout })).text.split("\n");
    for (const name of ["manifest.json", "index.json", "oci-layout", "repositories", "blobs/sha256/"]) {
      assert.ok(names.includes(name), name);
    }
    assert.equal(new Set(names).size, names.length, "a layer is there twice");
    await hasDates(saved.stdout, "kept:2");
    await ok("rmi", "kept:1", "kept:2");
    const loaded = await daemon.dockerWith({ input: saved.stdout }, "load");
    assert.deepEqual(loaded.text.split("\n").sort(), [
      "Loaded image: busybox:latest",
      "Loaded image: kept:1",
      "Loaded image: kept:2",
    ]);
    assert.equal(await ok("inspect", "-f", "{{.Id}}", "kept:2"), id);
    assert.equal(await ok("run", "--rm", "kept:1"), "one");
    await ok("rmi", "kept:1", "kept:2");
  });

  test("is an OCI layout that loads without its docker manifest", async () => {
    const id = await made("layout:1", "oci");
    const saved = await docker("save", "layout:1");
    const stripped = await runCommand("tar", ["--delete", "--file=-", "manifest.json", "repositories"], {
      input: saved.stdout,
    });
    await ok("rmi", "layout:1");
    const loaded = await daemon.dockerWith({ input: stripped.stdout }, "load");
    assert.match(loaded.text, /Loaded image: layout:1/, loaded.errorText);
    assert.equal(await ok("inspect", "-f", "{{.Id}}", "layout:1"), id);
    await ok("rmi", "layout:1");
  });

  test("gives what a real dockerd loads and runs", async () => {
    const id = await made("travels:1", "there");
    const saved = await docker("save", "travels:1", id);
    await using dockerd = await Dockerd.start();
    const loaded = await dockerd.dockerWith({ input: saved.stdout }, "load");
    assert.match(loaded.text, /Loaded image: travels:1/, loaded.errorText);
    assert.equal(await dockerd.ok("inspect", "-f", "{{.Id}}", "travels:1"), id);
    assert.equal(await dockerd.ok("run", "--rm", "--network", "none", "travels:1"), "there");
    const back = await dockerd.docker("save", "travels:1");
    await ok("rmi", "travels:1");
    assert.equal((await daemon.dockerWith({ input: back.stdout }, "load")).code, 0);
    assert.equal(await ok("inspect", "-f", "{{.Id}}", "travels:1"), id);
    await ok("rmi", "travels:1");
  });

  test("is taken as a real dockerd takes it where it is of Docker 1.9", async () => {
    const { layers } = await busyboxImage();
    const ids = layers.map((_, index) => String(index + 1).repeat(64));
    const steps = layers.map((layer, index) => ({
      id: ids[index] ?? "",
      layer,
      ...(index === 0 ? {} : { parent: ids[index - 1] ?? "" }),
      json: { comment: "<a@b.c>", config: { Cmd: ["echo", "old"], Labels: { b: "1", a: "<&>" } } },
    }));
    const archive = await legacyArchive(steps, { "old/times": { "1": ids[1] ?? "", base: ids[0] ?? "" } });
    await using dockerd = await Dockerd.start();
    for (const side of [dockerd, daemon]) {
      const loaded = await side.dockerWith({ input: archive }, "load");
      assert.equal(loaded.code, 0, loaded.errorText);
      const network = side === dockerd ? "none" : quickestNetwork();
      assert.equal(await side.ok("run", "--rm", "--network", network, "old/times:1"), "old");
    }
    for (const told of [
      "{{.Id}} {{.Parent}} {{.Comment}} {{.Created}}",
      "{{json .RootFS}} {{json .Config.Labels}}",
    ]) {
      for (const name of ["old/times:1", "old/times:base"]) {
        assert.equal(await ok("inspect", "-f", told, name), await dockerd.ok("inspect", "-f", told, name));
      }
    }
    const history = [
      "history",
      "--no-trunc",
      "--format",
      "{{.ID}} {{.CreatedBy}} {{.Comment}}",
      "old/times:1",
    ];
    assert.equal(await ok(...history), await dockerd.ok(...history));
    await ok("rmi", "old/times:1", "old/times:base");
  });

  test("refuses an image that is not there", async () => {
    assert.match((await docker("save", "nothing:here")).errorText, /No such image: nothing:here/);
  });
});

describe("docker push", () => {
  test("uploads what the registry lacks, and tells what it has", async () => {
    await using registry = await TestRegistry.start();
    const name = `${registry.host}/first/image:1`;
    const id = await made(name, "pushed");
    const first = await docker("push", name);
    assert.equal(first.code, 0, first.errorText);
    const lines = first.text.split("\n");
    assert.equal(lines[0], `The push refers to repository [${registry.host}/first/image]`);
    assert.equal(lines.filter((line) => line.endsWith(": Pushed")).length, 3);
    const digest = /^1: digest: (sha256:[0-9a-f]{64}) size: \d+$/.exec(lines.at(-1) ?? "")?.[1];
    assert.ok(digest !== undefined, first.text);
    assert.equal(
      await ok("inspect", "-f", "{{index .RepoDigests 0}}", name),
      `${registry.host}/first/image@${digest}`,
    );

    const again = await docker("push", name);
    assert.equal(again.text.split("\n").filter((line) => line.endsWith(": Layer already exists")).length, 3);
    assert.match(again.text, new RegExp(`digest: ${digest} `));

    const other = `${registry.host}/second/image:2`;
    await ok("tag", name, other);
    assert.match(
      (await docker("push", other)).text,
      /: (Mounted from first\/image|Pushed|Layer already exists)$/m,
    );

    await ok("rmi", name, other);
    await ok("pull", other);
    assert.equal(await ok("inspect", "-f", "{{.Id}}", other), id);
    assert.equal(await ok("run", "--rm", other), "pushed");
    // A pulled image goes out as it came: the digest stays.
    await ok("tag", other, `${registry.host}/third:3`);
    assert.match(await ok("push", `${registry.host}/third:3`), new RegExp(`digest: ${digest} `));
    await ok("rmi", other, `${registry.host}/third:3`);
  });

  test("takes credentials, and tells when there are none", async () => {
    await using registry = await TestRegistry.start({ credentials: true });
    const name = `${registry.host}/guarded:1`;
    await ok("tag", "busybox", name);
    const refused = await docker("push", name);
    assert.equal(refused.code, 1);
    assert.match(refused.errorText, /no basic auth credentials/);
    const { username, password } = registryUser;
    const login = await daemon.dockerWith(
      { input: password },
      ...["login", "--username", username, "--password-stdin", registry.host],
    );
    assert.equal(login.code, 0, login.errorText);
    assert.match(await ok("push", name), /digest: sha256:/);
    await ok("logout", registry.host);
    await ok("rmi", name);
  });

  test("tells of a name or a registry that is not there", async () => {
    const nothing = await docker("push", "127.0.0.1:1/nothing");
    assert.match(nothing.errorText, /An image does not exist locally with the tag: 127.0.0.1:1\/nothing/);
    await ok("tag", "busybox", "127.0.0.1:1/busybox");
    assert.match((await docker("push", "127.0.0.1:1/busybox:other")).errorText, /tag does not exist/);
    assert.match((await docker("push", "127.0.0.1:1/busybox")).errorText, /connection refused/);
    await ok("rmi", "127.0.0.1:1/busybox");
  });

  test("sends all tags of a name at once", async () => {
    await using registry = await TestRegistry.start();
    const name = `${registry.host}/many/tags`;
    for (const tag of ["a", "b"]) {
      await ok("tag", "busybox", `${name}:${tag}`);
    }
    const lines = (await ok("push", "--all-tags", name)).split("\n");
    assert.equal(lines.filter((line) => line.startsWith("The push refers to repository")).length, 1);
    assert.deepEqual(
      lines.flatMap((line) => /^([ab]): digest: sha256:/.exec(line)?.[1] ?? []),
      ["a", "b"],
    );
    const answer = await fetch(`http://${registry.host}/v2/many/tags/tags/list`);
    assert.deepEqual(new Set(((await answer.json()) as { tags: string[] }).tags), new Set(["a", "b"]));
    await ok("rmi", `${name}:a`, `${name}:b`);
  });

  test("sends the aux message with the digest", async () => {
    await using registry = await TestRegistry.start();
    await ok("tag", "busybox", `${registry.host}/box:9`);
    const response = await call("POST", `/v1.51/images/${registry.host}/box/push?tag=9`);
    const last = JSON.parse(response.text.trim().split("\r\n").at(-1) ?? "") as {
      aux: { Tag: string; Digest: string; Size: number };
    };
    assert.equal(last.aux.Tag, "9");
    assert.match(last.aux.Digest, /^sha256:[0-9a-f]{64}$/);
    assert.ok(last.aux.Size > 100);
    await ok("rmi", `${registry.host}/box:9`);
  });
});

describe("docker image prune", () => {
  test("removes nameless images, with --all unused ones, and spares what is used or filtered", async () => {
    await made("named:1", "named");
    const used = await made("used:1", "used");
    const dangling = await made("dangling:1", "dangling");
    await ok("create", "--name", "user", "used:1");
    await made("dangling:1", "takes the name");
    const spared = await call(
      "POST",
      `/v1.51/images/prune?filters=${encodeURIComponent('{"until":["1h"]}')}`,
    );
    assertDescribed("post", "/images/prune", 200, JSON.parse(spared.text));
    assert.deepEqual(JSON.parse(spared.text), { ImagesDeleted: null, SpaceReclaimed: 0 });
    const pruned = await ok("image", "prune", "--force");
    assert.match(pruned, new RegExp(`deleted: ${dangling}`));
    assert.match(pruned, /Total reclaimed space: [1-9]/);
    assert.doesNotMatch(pruned, /untagged: named:1/);
    const all = await ok("image", "prune", "--force", "--all", "--filter", "label!=keep");
    assert.match(all, /untagged: named:1/);
    assert.doesNotMatch(all, new RegExp(used));
    assert.equal(await ok("inspect", "-f", "{{.Id}}", "used:1"), used);
    await ok("rm", "user");
    await ok("rmi", "used:1");
    assert.match(
      (await docker("image", "prune", "-f", "--filter", "colour=red")).errorText,
      /invalid filter 'colour'/,
    );
    await ok("load", "--input", await busyboxArchiveFile());
  });
});

describe("docker volume prune", () => {
  test("removes unused anonymous volumes, with --all named ones too", async () => {
    await ok("volume", "create", "labelled", "--label", "keep=1");
    await ok("volume", "create", "plain");
    await ok("volume", "create"); // anonymous
    await ok(
      ...["run", "--name=holder", "-v", "held:/held", "-v", "/anonymous", "busybox"],
      ...["sh", "-c", "dd if=/dev/zero of=/held/x bs=1k count=64"],
    );
    const first = await ok("volume", "prune", "--force");
    assert.match(first, /^[0-9a-f]{64}$/m);
    assert.doesNotMatch(first, /plain|held|labelled/);
    const second = await ok("volume", "prune", "--force", "--all", "--filter", "label!=keep");
    assert.match(second, /^plain$/m);
    assert.doesNotMatch(second, /held|labelled/);
    await ok("rm", "holder");
    const old = await call("POST", "/v1.41/volumes/prune");
    const body = JSON.parse(old.text) as { VolumesDeleted: string[]; SpaceReclaimed: number };
    assert.ok(body.VolumesDeleted.includes("held") && body.VolumesDeleted.includes("labelled"), old.text);
    // A directory of a shared file system has no size, and what is removed of it keeps its files.
    assert.ok(
      backendUnderTest() === "local" ? body.SpaceReclaimed >= 65_536 : body.SpaceReclaimed === 0,
      old.text,
    );
    const none = await call("POST", "/v1.51/volumes/prune");
    assertDescribed("post", "/volumes/prune", 200, JSON.parse(none.text));
    assert.deepEqual(JSON.parse(none.text), { VolumesDeleted: [], SpaceReclaimed: 0 });
  });
});

describe("docker system df", () => {
  /** Sizes as df shows them: on a shared file system nobody counts what is written. */
  const sizes =
    backendUnderTest() === "local"
      ? { filled: 200_000, shown: "200kB", shownOfOne: "200kB" }
      : { filled: -1, shown: "0B", shownOfOne: "-1B" };

  test("counts images, containers and volumes", async () => {
    await ok(
      ...["run", "--name=writer", "-v", "filled:/filled", "busybox"],
      ...["sh", "-c", "head -c 100000 /dev/zero > /own; head -c 200000 /dev/zero > /filled/x"],
    );
    const response = await call("GET", "/v1.51/system/df");
    assert.equal(response.status, 200, response.text);
    const body = JSON.parse(response.text) as {
      LayersSize: number;
      Images: { RepoTags: string[]; Containers: number; SharedSize: number }[];
      Containers: { Names: string[]; SizeRw: number }[];
      Volumes: { Name: string; UsageData: { Size: number; RefCount: number } }[];
    };
    assertDescribed("get", "/system/df", 200, body);
    assert.ok(body.LayersSize > 500_000);
    assert.equal(body.Images.find(({ RepoTags }) => RepoTags.includes("busybox:latest"))?.Containers, 1);
    const writer = body.Containers.find(({ Names }) => Names.includes("/writer"));
    const filled = body.Volumes.find(({ Name }) => Name === "filled");
    assert.equal(writer?.SizeRw, 100_000);
    assert.deepEqual(filled?.UsageData, { RefCount: 1, Size: sizes.filled });
    const volumes = JSON.parse((await call("GET", "/v1.51/system/df?type=volume")).text) as Record<
      string,
      unknown
    >;
    assert.equal(volumes["Images"], null);
    assert.equal((await call("GET", "/v1.51/system/df?type=nothing")).status, 400);
    assert.match(await ok("system", "df"), new RegExp(`^Local Volumes\\s+1\\s+1\\s+${sizes.shown}`, "m"));
    assert.match(await ok("system", "df", "-v"), new RegExp(`filled\\s+1\\s+${sizes.shownOfOne}`));
    await ok("rm", "writer");
    await ok("volume", "rm", "filled");
  });
});

describe("unpacked layers", { skip: onlyOn("local", "a platform unpacks layers") }, () => {
  test("that no image or container names are gone after a restart, the others stay", async () => {
    await ok("run", "--name", "stands", "busybox", "true");
    await ok("rmi", "--force", "busybox");
    const layers = join(daemon.stateDir, "layers");
    const before = await readdir(layers);
    await daemon.shutDown();
    // As a crash leaves one, between the end of its image's record and its own.
    const orphan = join(layers, "ab".repeat(12));
    await mkdir(join(orphan, "diff"), { recursive: true });
    const bootId = (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
    const record = {
      version: 1,
      diff_id: `sha256:${"ab".repeat(32)}`,
      size: 0,
      root_stated: false,
      boot_id: bootId,
    };
    await writeFile(join(orphan, "layer.json"), JSON.stringify(record));
    await daemon.launch();
    // Layers of earlier tests may still be on their way out; those that the container stands on are needed to start it.
    assert.ok(!(await readdir(layers)).includes("ab".repeat(12)), "the orphan is gone");
    await ok("start", "--attach", "stands");
    await ok("rm", "stands");
    await until(async () => (await readdir(layers)).length < before.length || undefined);
  });
});
