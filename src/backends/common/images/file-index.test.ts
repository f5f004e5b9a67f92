import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { gzipSync } from "node:zlib";

import { streamOf } from "../../../../test/support/image-store.ts";
import { tarOf } from "../../../../test/support/tar.ts";
import { FileIndex } from "./file-index.ts";

async function indexOf(...layers: Parameters<typeof tarOf>[0][]): Promise<FileIndex> {
  const index = new FileIndex();
  for (const layer of layers) {
    await index.addLayer(streamOf(await tarOf(layer)));
  }
  return index;
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
        { name: "var/log/.wh..wh..opq" },
        { name: "var/log/two", content: "x" },
        { name: ".wh.gone" },
      ],
    );
    assert.equal(index.find("/etc")?.mode, 0o700);
    assert.equal(index.find("etc/passwd")?.size, 4);
    assert.equal(index.find("/opt/app/old"), undefined);
    assert.deepEqual([index.find("/opt/app/new")?.size, index.find("/opt/app/new")?.mode], [6, 0o755]);
    assert.equal(index.find("/var/log/one"), undefined);
    assert.equal(index.find("/var/log/two")?.type, "file");
    assert.equal(index.find("/gone/deep/file"), undefined);
    assert.equal(index.find("/gone"), undefined);
    assert.equal(index.find("/")?.type, "directory");
    assert.equal(index.find("/opt")?.type, "directory", "a directory that no layer names");
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
    assert.equal(index.find("/bin/sh")?.type, "file");
    assert.equal(index.find("/bin")?.type, "symlink");
    assert.equal(index.targetOf("/bin"), "/usr/bin");
    assert.equal(index.find("/etc/up/bin/sh")?.type, "file");
    assert.equal(index.find("/loop/x"), undefined);
    assert.equal(index.targetOf("/dangling"), "/no/such");
    assert.equal(index.find("/hard")?.size, 1);
  });

  it("may be replaced by others of another kind, and come compressed", async () => {
    const index = await indexOf([{ name: "x/y", content: "1" }]);
    await index.addLayer(streamOf(gzipSync(await tarOf([{ name: "x", content: "22" }]))));
    assert.equal(index.find("/x")?.type, "file");
    assert.equal(index.find("/x/y"), undefined);
  });

  it("are joined by those of archives that were unpacked into a directory", async () => {
    const index = await indexOf([
      { name: "data/", type: "directory" },
      { name: "link", type: "symlink", linkname: "data" },
    ]);
    await index.addArchive("/link", streamOf(await tarOf([{ name: "sub/file", content: "x" }])));
    assert.equal(index.find("/data/sub/file")?.type, "file");
    assert.equal(index.find("/link/sub")?.type, "directory");
  });
});
