import assert from "node:assert/strict";
import { type FileHandle, open, readdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { beforeEach, describe, it } from "node:test";
import { gzipSync } from "node:zlib";

import { create } from "@bufbuild/protobuf";

import { streamOf } from "../../../../test/support/image-store.ts";
import { tarOf } from "../../../../test/support/tar.ts";
import {
  type ArchivePutRequest,
  ArchivePutRequestSchema,
} from "../../../gen/sockerless/agent/v1/agent_pb.ts";
import { FileIndex } from "../../images/file-index.ts";
import { entryHeader } from "../../images/tar-entries.ts";
import { StagedFiles } from "./staged-files.ts";
import { scratchDirectory } from "../../../../test/support/scratch.ts";

const container = "c".repeat(64);
const mib = 1024 ** 2;

describe("staged files", () => {
  let directory: string;
  let staged: StagedFiles;
  const { signal } = new AbortController();

  beforeEach(async () => {
    directory = scratchDirectory();
    const lives = { isNew: () => true, isStarting: () => false, workingDirectoryOf: () => "/" };
    staged = new StagedFiles(directory, lives, 16 * mib);
    await staged.open();
  });
  async function put(target: string, tar: Uint8Array, copyUidGid = false): Promise<void> {
    async function* requests(): AsyncGenerator<ArchivePutRequest> {
      const open = { path: target, copyUidGid, user: "app" };
      yield create(ArchivePutRequestSchema, { message: { case: "open", value: open } });
      const chunk = { offset: 0n, data: tar };
      yield create(ArchivePutRequestSchema, { message: { case: "chunk", value: chunk } });
      const end = { totalBytes: BigInt(tar.length) };
      yield create(ArchivePutRequestSchema, { message: { case: "end", value: end } });
    }
    await staged.put(container, requests(), async () => {});
  }

  /** A tar of a file of zeros, compressed without all of them in memory. */
  function compressedZeros(size: number): Buffer {
    const header = entryHeader({
      name: "zeros",
      type: "file",
      size,
      mode: 0,
      uid: 0,
      gid: 0,
      mtime: 0,
      target: "",
    });
    const zeros = gzipSync(Buffer.alloc(16 * mib));
    return Buffer.concat([gzipSync(header), ...Array.from({ length: size / (16 * mib) }, () => zeros)]);
  }

  it("that unpack to more than is read are refused to those who look at them", async () => {
    await put("/", await tarOf([{ name: "a", content: "x" }]));
    await staged.addTo(new FileIndex(), container, signal);
    assert.equal(await staged.writtenBytes(container, signal), 1n);
    await put("/", compressedZeros(64 * mib));
    const refused = { kind: "invalid", message: /unpack to more than 16777216 bytes/ };
    await assert.rejects(staged.addTo(new FileIndex(), container, signal), refused);
    await assert.rejects(staged.writtenBytes(container, signal), refused);
  });

  it("are whole, however little of them a disk takes at a time", async (t) => {
    const tar = await tarOf([{ name: "a", content: "x".repeat(30_000) }]);
    await using handle = await open(path.join(directory, "any"), "w");
    const prototype = Object.getPrototypeOf(handle) as FileHandle;
    const write: (data: Uint8Array, offset: number, length: number) => unknown = prototype.write;
    t.mock.method(prototype, "write", function (this: FileHandle, data: Uint8Array) {
      return write.call(this, data, 0, Math.min(data.length, 4096));
    });
    await put("/", tar);
    assert.equal(await staged.writtenBytes(container, signal), 30_000n);
  });

  it("are no longer read once nobody asks", async () => {
    const lives = { isNew: () => true, isStarting: () => false, workingDirectoryOf: () => "/" };
    staged = new StagedFiles(directory, lives);
    await put("/", compressedZeros(4096 * mib));
    for (const look of [
      (left: AbortSignal) => staged.writtenBytes(container, left),
      (left: AbortSignal) => staged.addTo(new FileIndex({ signal: left }), container, left),
    ]) {
      const left = new AbortController();
      const looking = look(left.signal);
      setTimeout(() => left.abort(new Error("left")), 50);
      await assert.rejects(looking, /left/);
    }
  });

  it("are read once, for whatever is asked about them", async () => {
    await put("/", await tarOf([{ name: "a", content: "x" }]));
    await staged.addTo(new FileIndex(), container, signal);
    for (const name of await readdir(path.join(directory, container))) {
      if (name.endsWith(".tar")) {
        await writeFile(path.join(directory, container, name), "other");
      }
    }
    await staged.addTo(new FileIndex(), container, signal);
    assert.equal(await staged.writtenBytes(container, signal), 1n);
  });

  it("are tried a number of times that does not grow with theirs", async () => {
    const count = 60;
    const empty = await tarOf([]);
    for (let number = 0; number < count; number++) {
      await put(`/v/${number}`, empty);
    }
    let tries = 0;
    const given = new Set<string>();
    class Nested extends FileIndex {
      /** Each archive needs the one after it. */
      override async addArchive(target: string): Promise<boolean> {
        tries++;
        const number = Number(path.basename(target));
        const fits = number === count - 1 || given.has(`${number + 1}`);
        given.add(fits ? `${number}` : "");
        return fits;
      }
    }
    await staged.addTo(new Nested(), container, signal);
    assert.ok(tries < 17 * count, `${tries} tries`);
  });

  it("are given to a user who is looked up once", async () => {
    const layer = await tarOf([{ name: "etc/passwd", content: "app:x:5:6::/:" }]);
    let opened = 0;
    const index = new FileIndex();
    await index.addLayer({
      open: () => {
        opened++;
        return streamOf(layer);
      },
    });
    for (let number = 0; number < 10; number++) {
      await put("/", await tarOf([{ name: `${number}`, content: "x" }]), true);
    }
    opened = 0;
    await staged.addTo(index, container, signal);
    assert.equal(opened, 1);
    const found = index.find("/9");
    assert.ok(found.kind === "file");
    assert.deepEqual([found.file.uid, found.file.gid], [5, 6]);
  });
});
