import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { gzipSync } from "node:zlib";

import { garbageCollection } from "../../../test/support/garbage-collection.ts";
import { openImageStore, streamOf, type TestImageStore } from "../../../test/support/image-store.ts";
import {
  blobOf,
  legacyArchive,
  legacyFolder,
  type LegacyStep,
  legacyTags,
} from "../../../test/support/images.ts";
import { type TarEntry, tarOf } from "../../../test/support/tar.ts";
import { HeldDocuments } from "./held-documents.ts";
import type { ReportProgress } from "./progress.ts";

const signal = new AbortController().signal;

const idOf = (digit: string): string => digit.repeat(64);

async function step(digit: string, parent?: string, json: LegacyStep["json"] = {}): Promise<LegacyStep> {
  const layer = await tarOf([{ name: `of-${digit}`, content: digit.repeat(1000) }]);
  return { id: idOf(digit), layer, json, ...(parent === undefined ? {} : { parent: idOf(parent) }) };
}

async function load(store: TestImageStore, archive: Uint8Array, report: ReportProgress = () => {}) {
  return await store.images.archives.load({
    archive: streamOf(archive),
    platform: undefined,
    report,
    signal,
  });
}

async function assertRefused(context: TestContext, entries: readonly TarEntry[], message: string | RegExp) {
  const store = await openImageStore(context);
  await assert.rejects(load(store, await tarOf(entries)), { kind: "invalid", message });
  assert.deepEqual(await store.blobs(), []);
  assert.deepEqual(await store.ingests(), []);
  assert.deepEqual([...store.preparer.layers], []);
  assert.equal(store.state.images.size, 0);
}

/** Images on top of one whose history has 400 KB, which each repeats; the last one has a layer of its own. */
async function repetitive(count: number): Promise<LegacyStep[]> {
  const { layer } = await step("a");
  const idAt = (at: number): string => String(at).padStart(64, "0");
  const long = { container_config: { Cmd: ["x".repeat(100_000)] } };
  return Array.from({ length: count }, (_, at) => ({
    id: idAt(at),
    layer: at < count - 1 ? layer : Buffer.concat([layer, Buffer.alloc(1_024)]),
    json: at < 4 ? long : {},
    ...(at > 0 && { parent: idAt(Math.min(at, 4) - 1) }),
  }));
}

/** Bytes that are really in use. */
function heapUsed(): number {
  garbageCollection()();
  return process.memoryUsage().heapUsed;
}

/** Whether all loads together hold little. */
function isRoom(): boolean {
  using documents = new HeldDocuments();
  try {
    documents.take(70 * 2 ** 20); // An eighth of what is free, while others hold less than 10 MiB.
    return true;
  } catch {
    return false;
  }
}

describe("a legacy archive", () => {
  it("becomes an image of each folder, on top of its parent's, under the tags of `repositories`", async (context) => {
    const store = await openImageStore(context);
    // The first folder by name is the last of the chain.
    const steps = [await step("a", "c"), await step("b"), await step("c", "b")];
    const archive = await legacyArchive(steps, {
      "ghcr.io/old/image": { "1": idOf("a"), latest: idOf("a") },
      base: { v0: idOf("b") },
    });
    assert.deepEqual(await load(store, archive), [], "Docker names nothing that it loads of these");
    assert.deepEqual(store.events(), []);

    const [top, bottom, middle] = steps;
    const { record, config } = await store.images.containers.resolve("ghcr.io/old/image");
    assert.deepEqual(record.names, ["ghcr.io/old/image:1", "ghcr.io/old/image:latest"]);
    assert.deepEqual(
      record.diffIds,
      [bottom, middle, top].map((each) => blobOf(each?.layer ?? Buffer.alloc(0)).digest),
    );
    assert.deepEqual(store.preparer.layers, new Set(record.diffIds));
    assert.deepEqual(config.cmd?.values, ["sh"]);
    assert.deepEqual({ ...config.labels }, { step: "aaaa" });
    const base = await store.images.containers.resolve("base:v0");
    const parent = store.images.catalog.find(record.parentId);
    assert.deepEqual(parent.names, []);
    assert.equal(parent.parentId, base.record.id);
    assert.deepEqual(
      store.images.catalog.history("ghcr.io/old/image").map(({ createdBy }) => createdBy),
      ["a", "c", "b"].map((digit) => `/bin/sh -c #(nop) ADD ${digit.repeat(4)} & more`),
    );
  });

  it("may be compressed, have compressed layers, and layers that are links", async (context) => {
    const store = await openImageStore(context);
    const [bottom, top] = [await step("b"), await step("a", "b")];
    const folder = legacyFolder({ ...top, layer: gzipSync(top.layer) });
    const linked = legacyFolder(await step("c", "b")).map((entry) =>
      entry.name.endsWith("layer.tar")
        ? { name: entry.name, type: "symlink" as const, linkname: `../${top.id}/layer.tar` }
        : entry,
    );
    const entries = [
      ...linked,
      ...legacyFolder(bottom),
      ...folder,
      legacyTags({ x: { a: top.id, c: idOf("c") } }),
    ];
    await load(store, gzipSync(await tarOf(entries)));
    const [a, c] = [
      await store.images.containers.resolve("x:a"),
      await store.images.containers.resolve("x:c"),
    ];
    assert.deepEqual(a.record.diffIds, c.record.diffIds);
    assert.equal(a.record.diffIds[1], blobOf(top.layer).digest);
  });

  it("without images is an archive of names that are none", async (context) => {
    await assertRefused(context, [], "open repositories: no such file or directory");
    await assertRefused(context, [legacyTags({ a: { b: idOf("a") } })], `invalid target ID: ${idOf("a")}`);
  });

  it("is refused if it is a root file system", async (context) => {
    await assertRefused(
      context,
      [
        { name: "bin/sh", content: "sh" },
        { name: "etc/", type: "directory" },
      ],
      "open bin/json: no such file or directory",
    );
  });

  it("is refused without `repositories`, or with an invalid one", async (context) => {
    const folder = legacyFolder(await step("a"));
    await assertRefused(context, folder, "open repositories: no such file or directory");
    await assertRefused(
      context,
      [...folder, { name: "repositories", content: "{" }],
      /^invalid repositories: /,
    );
    await assertRefused(context, [...folder, legacyTags({ a: "b" })], /^invalid repositories at a: /);
    await assertRefused(
      context,
      [...folder, legacyTags({ a: { "b c": idOf("a") } })],
      "invalid reference format",
    );
    await assertRefused(
      context,
      [...folder, legacyTags({ "A b": { c: idOf("a") } })],
      /^invalid reference format/,
    );
    const digest = `sha256:${idOf("d")}`;
    await assertRefused(
      context,
      [...folder, legacyTags({ [`a@${digest}`]: { c: idOf("a") } })],
      "invalid tag format",
    );
    await assertRefused(
      context,
      [...folder, legacyTags({ a: { [`c@${digest}`]: idOf("a") } })],
      "invalid tag format",
    );
  });

  it("is refused if a directory lacks a part", async (context) => {
    for (const part of ["json", "layer.tar"]) {
      const folder = legacyFolder(await step("a")).filter(({ name }) => !name.endsWith(part));
      await assertRefused(
        context,
        [...folder, legacyTags({ a: { b: idOf("a") } })],
        `open ${idOf("a")}/${part}: no such file or directory`,
      );
    }
  });

  it("is refused if a parent is not one of its directories, or is a link", async (context) => {
    const tags = legacyTags({ a: { b: idOf("a") } });
    for (const parent of [idOf("b"), "..", ".", `../${idOf("a")}`, "/etc", "repositories", "__proto__"]) {
      const folder = legacyFolder({ ...(await step("a")), parent });
      await assertRefused(context, [...folder, tags], `open ${parent}/json: no such file or directory`);
    }
    const link: TarEntry = { name: idOf("b"), type: "symlink", linkname: idOf("c") };
    const through = legacyFolder(await step("b")); // Written through the link where the tar is unpacked.
    const entries = [
      link,
      ...through,
      ...legacyFolder(await step("a", "b")),
      ...legacyFolder(await step("c")),
      tags,
    ];
    await assertRefused(context, entries, `open ${idOf("b")}/json: no such file or directory`);
  });

  it("is read at once, however long a time in it is", async (context) => {
    const endless = `2015-11-03T20:15:39.${"0".repeat(500_000)}1Z`;
    const folder = legacyFolder(await step("a", undefined, { created: endless }));
    await assertRefused(context, [...folder, legacyTags({})], /^invalid image configuration at created/);
  });

  it("is refused at once if it gives its images too many names", { timeout: 120_000 }, async (context) => {
    const tags = Array.from({ length: 10_000 }, (_, tag) => [tag, "a"]);
    const folder = legacyFolder({ ...(await step("a")), id: "a" });
    const entries = [...folder, legacyTags({ many: Object.fromEntries(tags) })];
    await assertRefused(context, entries, "archive has more than 8192 names of images");
  });

  it("gives an image at most 1024 names, those that it has included", async (context) => {
    const store = await openImageStore(context);
    const short = { ...(await step("a")), id: "a" };
    const tagged = (count: number, name: string) =>
      legacyArchive([short], {
        [name]: Object.fromEntries(Array.from({ length: count }, (_, tag) => [tag, "a"])),
      });
    await load(store, await tagged(1_024, "many"));
    await load(store, await tagged(1_024, "many"));
    await assert.rejects(
      load(store, await tagged(1, "more")),
      /^SockerlessError: an image may have at most 1024 names$/,
    );
    assert.equal((await store.images.containers.resolve("many:0")).record.names.length, 1_024);
  });

  it("is not held in memory while its images are made", async (context) => {
    const store = await openImageStore(context);
    const { layer } = await step("a");
    const idAt = (at: number): string => String(999 - at).padStart(64, "0"); // The first by name is the last of the chain.
    const large = { x: `${"x".repeat(480_000)}…` }; // Two bytes a character in memory.
    const steps = Array.from({ length: 60 }, (_, at) => ({
      ...{ id: idAt(at), layer, json: large },
      ...(at > 0 && { parent: idAt(at - 1) }),
    }));
    const archive = await legacyArchive(steps, {});
    const before = heapUsed();
    let atFirst: number | undefined;
    await load(store, archive, () => {
      atFirst ??= heapUsed() - before;
    });
    assert.ok(atFirst !== undefined && atFirst < 40_000_000, `${atFirst} bytes, of 60 images' 58 MB`);
  });

  it("counts its configurations, which repeat their parents' history, among the memory of all loads", async (context) => {
    const store = await openImageStore(context);
    const steps = await repetitive(60);
    const room: boolean[] = [];
    await load(store, await legacyArchive(steps, {}), () => room.push(isRoom()));
    assert.deepEqual([...room, isRoom()], [true, false, true]);
  });

  it("counts the names that it gives, which a long one is once for all tags", async (context) => {
    const store = await openImageStore(context);
    const room: boolean[] = [];
    store.preparer.beforePrepare = async () => void room.push(isRoom());
    const tags = (digit: string) =>
      Object.fromEntries(Array.from({ length: 1_000 }, (_, number) => [`${number}`, idOf(digit)]));
    const long = `${"c".repeat(60)}.`.repeat(60);
    const repositories = { [`${long}com/a`]: tags("a"), [`${long}com/b`]: tags("b") };
    const archive = await legacyArchive([await step("a"), await step("b")], repositories);
    assert.ok(archive.length < 400_000, `${archive.length} bytes`);
    await load(store, archive);
    assert.deepEqual([...room, isRoom()], [false, false, true]);
  });

  it("is refused if its configurations have too many lists in lists", async (context) => {
    const nested: unknown = JSON.parse("[".repeat(60) + "]".repeat(60));
    const large = { x: Array.from({ length: 4_000 }, () => nested) };
    const folder = legacyFolder(await step("a", undefined, large));
    const message = "the archive's manifests and configurations are too large together";
    await assertRefused(context, [...folder, legacyTags({ a: { b: idOf("a") } })], message);
  });

  it("is refused if images are each other's parents", async (context) => {
    const tags = legacyTags({ a: { b: idOf("a") } });
    await assertRefused(
      context,
      [...legacyFolder(await step("a", "a")), tags],
      `image ${idOf("a")} is its own ancestor`,
    );
    const circle = [await step("a", "b"), await step("b", "c"), await step("c", "a")].flatMap(legacyFolder);
    await assertRefused(context, [...circle, tags], `image ${idOf("a")} is its own ancestor`);
  });

  it("is refused if an image has more than 125 layers", async (context) => {
    const { layer } = await step("a");
    const numbered = (number: number): string => String(number).padStart(64, "0");
    for (const order of [(number: number) => number, (number: number) => 1000 - number]) {
      const steps = Array.from({ length: 126 }, (_, index) => ({
        id: numbered(order(index)),
        layer,
        ...(index === 0 ? {} : { parent: numbered(order(index - 1)) }),
      }));
      await assertRefused(context, [...steps.flatMap(legacyFolder), legacyTags({})], "max depth exceeded");
    }
  });

  it("is refused if the configurations of its images are too large", async (context) => {
    const folders = (await repetitive(180)).flatMap(legacyFolder);
    const message = "the archive's manifests and configurations are too large together";
    await assertRefused(context, [...folders, legacyTags({})], message);
    const loud = legacyFolder(await step("a", undefined, { comment: "c".repeat(300_000) }));
    await assertRefused(context, loud, "invalid image configuration: more than 524288 bytes");
  });

  it("is refused if an image is for Windows, or its `json` is invalid", async (context) => {
    const tags = legacyTags({ a: { b: idOf("a") } });
    const windows = legacyFolder(await step("a", undefined, { os: "windows" }));
    await assertRefused(context, [...windows, tags], "cannot load windows image on linux");
    const strange = [
      ["null", /^invalid image configuration/],
      ["[]", /^invalid image configuration/],
      ['{"parent":7}', /^invalid image configuration at parent/],
      ['{"config":[]}', /^invalid image configuration at config/],
      [
        `{"config":{"Labels":${'{"a":'.repeat(100_000)}1${"}".repeat(100_000)}}}`,
        /^invalid image configuration/,
      ],
    ] as const;
    for (const [content, message] of strange) {
      const folder = legacyFolder(await step("a")).map((entry) =>
        entry.name.endsWith("/json") ? { ...entry, content } : entry,
      );
      await assertRefused(context, [...folder, tags], message);
    }
  });
});
