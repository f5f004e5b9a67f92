import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { gzipSync } from "node:zlib";

import type { Header } from "tar-stream";

import { streamOf } from "../../../test/support/image-store.ts";
import { entriesOf, type TarEntry, tarOf } from "../../../test/support/tar.ts";
import { FileBudget } from "./file-budget.ts";
import { FileIndex } from "./file-index.ts";
import type { IndexedFile } from "./indexed-file.ts";
import { type NamedFile, tarOfFiles } from "./files-tar.ts";

type Entries = readonly TarEntry[];

const layerOf = (tar: Buffer) => ({ open: () => streamOf(tar) });

async function indexOf(...layers: Entries[]): Promise<FileIndex> {
  const index = new FileIndex();
  for (const layer of layers) {
    await index.addLayer(layerOf(await tarOf(layer)));
  }
  return index;
}

function fileAt(index: FileIndex, path: string): IndexedFile | undefined {
  const found = index.find(path);
  return found.kind === "file" ? found.file : undefined;
}

async function walked(index: FileIndex, path: string, entersMounts = true): Promise<string[]> {
  return (await Array.fromAsync(index.walk(path, entersMounts))).map((each) => each.path);
}

describe("the files of an image", () => {
  it("are those of all layers, whiteouts applied", async () => {
    const index = await indexOf(
      [
        { name: "etc/", type: "directory", mode: 0o700 },
        { name: "etc/passwd", content: "root" },
        { name: "opt/app/old", content: "x" },
        { name: "var/log/one", content: "x" },
        { name: "gone/deep/file", content: "x" },
      ],
      [
        { name: "opt/app/.wh.old" },
        { name: "opt/app/new", content: "longer", mode: 0o755 },
        { name: "var/log/two", content: "x" },
        { name: "var/log/.wh..wh..opq" },
        { name: ".wh.gone" },
        { name: "etc/hosts", content: "x" },
      ],
    );
    assert.equal(fileAt(index, "/etc")?.mode, 0o700, "a layer that has something in it does not change it");
    assert.equal(fileAt(index, "etc/passwd")?.size, 4);
    assert.equal(index.find("/opt/app/old").kind, "missing");
    assert.deepEqual([fileAt(index, "/opt/app/new")?.size, fileAt(index, "/opt/app/new")?.mode], [6, 0o755]);
    assert.equal(index.find("/var/log/one").kind, "missing");
    assert.equal(fileAt(index, "/var/log/two")?.type, "file");
    assert.equal(index.find("/gone/deep/file").kind, "missing");
    assert.equal(index.find("/gone").kind, "missing");
    assert.equal(fileAt(index, "/")?.type, "directory");
    assert.equal(fileAt(index, "/opt")?.type, "directory", "a directory that no layer names");
  });

  it("are found through links of their parents, which never lead out", async () => {
    const index = await indexOf([
      { name: "usr/bin/sh", content: "x" },
      { name: "bin", type: "symlink", linkname: "usr/bin" },
      { name: "etc/up", type: "symlink", linkname: "../../../usr" },
      { name: "loop", type: "symlink", linkname: "/loop" },
      { name: "dangling", type: "symlink", linkname: "/no/such" },
      { name: "hard", type: "link", linkname: "usr/bin/sh" },
    ]);
    assert.equal(fileAt(index, "/bin/sh")?.type, "file");
    assert.equal(fileAt(index, "/bin")?.type, "symlink");
    assert.equal(fileAt(index, "/bin/")?.type, "directory");
    assert.equal(index.targetOf("/bin"), "/usr/bin");
    assert.equal(fileAt(index, "/etc/up/bin/sh")?.type, "file");
    assert.equal(fileAt(index, "/loop/x"), undefined);
    assert.equal(index.targetOf("/dangling"), "/no/such");
    assert.equal(fileAt(index, "/hard")?.size, 1);
    assert.equal(index.find("/hard/").kind, "not-a-directory");
    assert.equal(index.find("/hard/x").kind, "not-a-directory");
    assert.equal(fileAt(index, "/no/../usr")?.type, "directory", "as Docker takes a path");
  });

  it("may be replaced by others of another kind, and come compressed", async () => {
    const index = await indexOf([
      { name: "x/y", content: "1" },
      { name: "z", type: "symlink", linkname: "x" },
    ]);
    const second = [
      { name: "x", content: "22" },
      { name: "z/in", content: "3" },
    ];
    await index.addLayer(layerOf(gzipSync(await tarOf(second))));
    assert.equal(fileAt(index, "/x")?.type, "file");
    assert.equal(fileAt(index, "/z")?.type, "directory", "as an overlay shows it");
    assert.deepEqual(await walked(index, "/"), ["", "x", "z", "z/in"]);
  });

  it("are limited in number, whether layers add or replace them", async () => {
    const layer = Array.from({ length: 60 }, (_, number) => ({ name: `f${number}`, content: "" }));
    const index = new FileIndex({ limit: 100 });
    for (let again = 0; again < 3; again++) {
      await index.addLayer(layerOf(await tarOf(layer)));
    }
    const others = await tarOf(layer.map(({ name }) => ({ name: `other-${name}`, content: "" })));
    await assert.rejects(index.addLayer(layerOf(others)), {
      kind: "invalid",
      message: /more than 100 files/,
    });
    const one = new FileIndex({ limit: 50 });
    await assert.rejects(one.addLayer(layerOf(await tarOf(layer))), /more than 50 files/);
    const implied = Array.from({ length: 30 }, (_, number) => ({ name: `${number}/b/c`, content: "" }));
    const directories = layerOf(await tarOf(implied));
    await new FileIndex({ limit: 90 }).addLayer(directories);
    await assert.rejects(new FileIndex({ limit: 89 }).addLayer(directories), /more than 89 files/);
    await assert.rejects(new FileIndex({ limit: 89 }).addArchive("/", directories), /more than 89 files/);
    const mounted = new FileIndex({ limit: 90 });
    await mounted.addMount("/m".repeat(80), "nothing");
    await assert.rejects(mounted.addMount("/n".repeat(80), "nothing"), /more than 90 files/);
    const deep = await tarOf([{ name: "d/".repeat(3000), type: "directory" }]);
    await assert.rejects(new FileIndex().addLayer(layerOf(deep)), /a path of more than 4096 bytes/);
  });
});

describe("many files", () => {
  /** A layer whose headers are kept, so that nothing is read. */
  const keptLayer = (names: readonly string[], told: (index: number) => void = () => {}) => ({
    open: () => assert.fail("the layer is not read"),
    async *headers() {
      for (const [index, name] of names.entries()) {
        told(index);
        yield { name, type: name.endsWith("/") ? "directory" : "file", size: 1 } as Header;
      }
    },
  });
  const numbered = (directory: string, count: number) =>
    Array.from({ length: count }, (_, index) => `${directory}${(index * 7919) % count}`);
  const deep = "a/".repeat(2_000);

  /** Turns of the event loop while some work is done. */
  async function turnsDuring(work: () => Promise<unknown>): Promise<number> {
    let turns = 0;
    let isOver = false;
    const count = (): void => {
      turns++;
      if (!isOver) {
        setImmediate(count);
      }
    };
    setImmediate(count);
    await work();
    isOver = true;
    return turns;
  }

  it("are added and walked in turns of the event loop, each of few files or elements of paths", async () => {
    for (const [names, least] of [
      [numbered("d/", 20_000), 15],
      [numbered(deep, 200), 5],
    ] as const) {
      const index = new FileIndex();
      assert.ok((await turnsDuring(() => index.addLayer(keptLayer(names)))) >= least, "adding");
      assert.ok((await turnsDuring(() => walked(index, "/"))) >= least, "walking");
      assert.ok((await turnsDuring(() => Array.fromAsync(index.changes(false)))) >= least, "comparing");
    }
  });

  it("are sorted", async () => {
    const index = new FileIndex();
    const names = numbered("d/", 5_500);
    await index.addLayer(keptLayer(names));
    const expected = names.map((name) => name.slice(2)).sort((one, other) => (one < other ? -1 : 1));
    assert.deepEqual(await walked(index, "/d/"), ["", ...expected]);
  });

  it("are left once nobody asks any more", async () => {
    const left = new AbortController();
    const index = new FileIndex({ signal: left.signal });
    let last = 0;
    const layer = keptLayer(numbered("d/", 20_000), (at) => {
      last = at;
      if (at === 5_000) {
        left.abort(new Error("left"));
      }
    });
    await assert.rejects(index.addLayer(layer), /left/);
    assert.ok(last <= 6_001, `${last} were read`);
  });

  it("count by the depth at which they are, too", async () => {
    const again = Array.from({ length: 1_000 }, () => deep);
    await assert.rejects(
      new FileIndex({ limit: 40_000 }).addLayer(keptLayer(again)),
      /more than 40000 files/,
    );
  });

  it("share the room of all indexes", async () => {
    const budget = new FileBudget(150);
    const layer = keptLayer(numbered("d", 100));
    const first = new FileIndex({ budget });
    await first.addLayer(layer);
    const second = new FileIndex({ budget });
    await assert.rejects(second.addLayer(layer), { kind: "unavailable", message: /try again later/ });
    second[Symbol.dispose]();
    first[Symbol.dispose]();
    const third = new FileIndex({ budget });
    await third.addLayer(layer);
    await assert.rejects(third.addArchive("/", keptLayer([`long/${"x".repeat(20_000)}`])), /4096 bytes/);
    await assert.rejects(third.addArchive("/", keptLayer(numbered("x".repeat(3_000), 10))), {
      kind: "unavailable",
    });
  });

  it("count with their capabilities, and so do whiteouts until their layer lies on the others", async () => {
    const pax = { "SCHILY.xattr.security.capability": "x".repeat(900) };
    const withCapability = await tarOf(numbered("d", 20).map((name) => ({ name, pax, content: "" })));
    const whiteouts = keptLayer(numbered(".wh.", 100));
    for (const [layer, files] of [
      [layerOf(withCapability), 80],
      [whiteouts, 100],
    ] as const) {
      await new FileIndex({ budget: new FileBudget(files) }).addLayer(layer);
      await assert.rejects(new FileIndex({ budget: new FileBudget(files - 1) }).addLayer(layer), {
        kind: "unavailable",
      });
    }
    const archived = new FileIndex({ budget: new FileBudget(79) });
    await assert.rejects(archived.addArchive("/", layerOf(withCapability)), { kind: "unavailable" });
    const replaced = new FileIndex({ limit: 100 });
    await replaced.addLayer(layerOf(withCapability));
    await replaced.addLayer(layerOf(withCapability));
    await assert.rejects(replaced.addLayer(keptLayer(numbered("e", 30))), /more than 100 files/);
  });

  it("have paths that links make no longer", async () => {
    const index = new FileIndex();
    await index.addLayer(keptLayer([deep]));
    const link = { name: "link", type: "symlink", linkname: `/${deep}` } as Header;
    await index.addArchive("/", {
      ...keptLayer([]),
      async *headers() {
        yield link;
      },
    });
    await assert.rejects(index.addArchive("/", keptLayer([`link/${"b/".repeat(100)}`])), /4096 bytes/);
  });
});

describe("archives over an image", () => {
  it("are unpacked through links, as far as the agent will unpack them", async () => {
    const index = await indexOf([
      { name: "data/", type: "directory" },
      { name: "link", type: "symlink", linkname: "data" },
      { name: "file", content: "x" },
    ]);
    const add = async (directory: string, entries: Entries) =>
      index.addArchive(directory, layerOf(await tarOf(entries)));
    await add("/link", [{ name: "sub/file", content: "x" }]);
    assert.equal(fileAt(index, "/data/sub/file")?.type, "file");
    assert.equal(fileAt(index, "/link/sub")?.type, "directory");
    await add("/", [{ name: "link/through", content: "x" }]);
    assert.equal(fileAt(index, "/data/through")?.type, "file");
    await add("/no/such", [{ name: "x", content: "x" }]);
    await add("/file", [{ name: "x", content: "x" }]);
    await add("/data", [
      { name: "before", content: "x" },
      { name: "../out", content: "x" },
      { name: "after", content: "x" },
    ]);
    await add("/data", [
      { name: "absolute", type: "symlink", linkname: "/file" },
      { name: "leading-out", type: "symlink", linkname: "../file" },
    ]);
    await add("/data", [{ name: "hard", type: "link", linkname: "/../file" }]);
    await add("/data", [{ name: "hard", type: "link", linkname: "before" }]);
    assert.equal(fileAt(index, "/data/hard"), fileAt(index, "/data/before"));
    assert.deepEqual(await walked(index, "/"), [
      "",
      "data",
      "data/absolute",
      "data/before",
      "data/hard",
      "data/sub",
      "data/sub/file",
      "data/through",
      "file",
      "link",
    ]);
  });

  it("are the differences from the image", async () => {
    const index = await indexOf([
      { name: "etc/", type: "directory" },
      { name: "etc/kept", content: "x" },
      { name: "etc/same", content: "x" },
      { name: "tree/in", content: "x" },
      { name: "other/", type: "directory" },
    ]);
    const tar = await tarOf([
      { name: "etc/", type: "directory" },
      { name: "etc/same", content: "x" },
      { name: "etc/deep/new", content: "x" },
      { name: "tree", content: "now a file" },
      { name: "other/", type: "directory", mode: 0o700 },
    ]);
    await index.addArchive("/", layerOf(tar));
    await index.addArchive("/etc/deep", layerOf(await tarOf([{ name: "new", content: "again" }])));
    const changes = async (touched: boolean) =>
      (await Array.fromAsync(index.changes(touched))).map(({ path, kind }) => `${kind} ${path}`);
    const rest = ["added /etc/deep", "added /etc/deep/new"];
    const last = ["modified /other", "modified /tree"];
    assert.deepEqual(await changes(false), ["none /etc", ...rest, ...last]);
    assert.deepEqual(await changes(true), ["none /etc", ...rest, "modified /etc/same", ...last]);
  });

  it("count outside of mount points, whose files may be elsewhere", async () => {
    const index = await indexOf([
      { name: "own/in", content: "x" },
      { name: "shared/in", content: "x" },
    ]);
    await index.addMount("/own", "image");
    await index.addMount("/shared", "elsewhere");
    await index.addMount("/made/here", "nothing");
    for (const directory of ["/own", "/shared", "/made/here"]) {
      await index.addArchive(directory, layerOf(await tarOf([{ name: "put", content: "x" }])));
    }
    const changed = (await Array.fromAsync(index.changes(true))).filter(({ kind }) => kind !== "none");
    assert.deepEqual(changed, []);
    assert.deepEqual(await walked(index, "/", false), ["", "made", "made/here", "own", "shared"]);
    assert.deepEqual(await walked(index, "/own"), ["", "in", "put"]);
    assert.deepEqual(
      ["/", "/shared/.", "/own", "/shared-not"].map((path) => index.elsewhereIn(path)),
      ["/shared", "/shared", undefined, undefined],
    );
    const found = index.find("/shared/in");
    assert.deepEqual(found, { kind: "missing", isElsewhere: true });
  });
});

describe("a tar of an image's files", () => {
  const tarFrom = async (index: FileIndex, path = "/"): Promise<Buffer> => {
    const named: NamedFile[] = (await Array.fromAsync(index.walk(path, true)))
      .filter((each) => each.path !== "")
      .map((each) => ({ name: each.path + (each.file.type === "directory" ? "/" : ""), file: each.file }));
    const chunks: Uint8Array[] = [];
    for await (const chunk of tarOfFiles(named, index)) {
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  };

  it("has all metadata of a file in the layers", async () => {
    const long = `${"long/".repeat(30)}name`;
    const big = Buffer.alloc(200_000, "0123456789");
    const index = await indexOf(
      [
        { name: "replaced", content: "first" },
        { name: "big", content: big, uid: 12, gid: 34, mode: 0o4755, mtime: new Date(1_000_000_000_000) },
        { name: "hard", type: "link", linkname: "big" },
        { name: "empty", content: "" },
        { name: "link", type: "symlink", linkname: "bîg" },
        { name: "null", type: "character-device", devmajor: 1, devminor: 3 },
        { name: "pipe", type: "fifo" },
        { name: "able", content: "x", pax: { "SCHILY.xattr.security.capability": "\u0001\u0000\u0002" } },
        { name: "far", content: "x", pax: { uid: "3000000", mtime: "10000000000.5" } },
      ],
      [
        { name: "replaced", content: "second" },
        { name: long, content: "deep" },
        { name: "ü", content: "x" },
      ],
    );
    const entries = await entriesOf(await tarFrom(index));
    const found = (name: string) => entries.find((entry) => entry.name === name);
    assert.equal(entries.filter(({ name }) => name === "replaced").length, 1);
    assert.equal(found("replaced")?.content, "second");
    assert.equal(found(long)?.content, "deep");
    assert.equal(found("ü")?.content, "x");
    const pax = (name: string) => found(name)?.pax as Record<string, string>;
    const file = found("big");
    assert.deepEqual(
      [file?.uid, file?.gid, file?.mode, file?.mtime?.getTime(), file?.content],
      [12, 34, 0o4755, 1_000_000_000_000, big.toString()],
    );
    assert.deepEqual([found("hard")?.type, found("hard")?.linkname], ["link", "big"]);
    assert.deepEqual([found("empty")?.type, found("empty")?.size], ["file", 0]);
    assert.equal(found("link")?.linkname, "bîg");
    assert.deepEqual(
      [found("null")?.type, found("null")?.devmajor, found("null")?.devminor],
      ["character-device", 1, 3],
    );
    assert.equal(found("pipe")?.type, "fifo");
    assert.equal(pax("able")["SCHILY.xattr.security.capability"], "\u0001\u0000\u0002");
    assert.deepEqual([pax("far")["uid"], pax("far")["mtime"]], ["3000000", "10000000000"]);
  });

  it("fails if a source has changed", async () => {
    let tar = await tarOf([{ name: "a", content: "whole" }]);
    const index = new FileIndex();
    await index.addLayer({ open: () => streamOf(tar) });
    tar = await tarOf([{ name: "a", content: "half" }]);
    await assert.rejects(tarFrom(index), /have changed since/);
    tar = await tarOf([]);
    await assert.rejects(tarFrom(index), /have changed since/);
  });
});
