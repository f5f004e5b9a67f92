/** Damage at random in an unpacked layer; the same for the same SOCKERLESS_SEED. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import path from "node:path";
import { beforeEach, describe, it } from "node:test";
import { gzipSync } from "node:zlib";

import { create } from "@bufbuild/protobuf";
import { pack } from "tar-stream";

import { ImageRecordSchema } from "../gen/sockerless/state/v1/state_pb.ts";
import { checkLayers } from "./check-layers.ts";
import { scratchDirectory } from "../../test/support/scratch.ts";

const runs = process.env["SOCKERLESS_SOAK"] === "1" ? 200 : 5;
const seed = process.env["SOCKERLESS_SEED"] ?? "1";
const files = ["etc/passwd", "usr/bin/program", "readme"];
const contentOf = (name: string): string => `content of ${name}\n`.repeat(50);
const sha256 = (content: Buffer): string => createHash("sha256").update(content).digest("hex");

describe("the check of unpacked layers", () => {
  let directory: string;
  let image: Parameters<typeof checkLayers>[1][number];
  let layer: string;

  beforeEach(async () => {
    directory = scratchDirectory();
    const tar = pack();
    for (const name of files) {
      tar.entry({ name: `./${name}` }, "an earlier entry of the name");
      tar.entry({ name: `./${name}` }, contentOf(name));
    }
    tar.entry({ name: "etc/.wh.gone" }, "");
    tar.entry({ name: "link", type: "symlink", linkname: "/etc" });
    tar.finalize();
    const bytes = Buffer.concat((await Array.fromAsync(tar)) as Buffer[]);
    const blob = gzipSync(bytes);
    const diffId = `sha256:${sha256(bytes)}`;
    image = create(ImageRecordSchema, { diffIds: [diffId], layerDigests: [`sha256:${sha256(blob)}`] });
    layer = `layers/${sha256(bytes).slice(0, 24)}`;
    const write = async (name: string, content: string | Buffer): Promise<void> => {
      await mkdir(path.dirname(path.join(directory, name)), { recursive: true });
      await writeFile(path.join(directory, name), content);
    };
    await write(`blobs/sha256/${sha256(blob)}`, blob);
    await write(`${layer}/layer.json`, JSON.stringify({ version: 1, diff_id: diffId }));
    for (const name of files) {
      await write(`${layer}/diff/${name}`, contentOf(name));
    }
  });
  it("finds nothing in a whole layer", async () => {
    assert.deepEqual(await checkLayers(directory, [image], path.join(directory, "aside")), []);
  });

  it("follows no link out of the layer", async () => {
    const outside = path.join(directory, "outside");
    await mkdir(outside);
    await writeFile(path.join(outside, "passwd"), "of the machine");
    await rm(path.join(directory, layer, "diff/etc"), { recursive: true });
    await symlink(outside, path.join(directory, layer, "diff/etc"));
    assert.deepEqual(await checkLayers(directory, [image], undefined), []);
  });

  for (const target of ["etc", "long".repeat(64)]) {
    it(`passes over a link that cannot be followed (${target.length} bytes)`, async () => {
      const etc = path.join(directory, layer, "diff/etc");
      await rm(etc, { recursive: true });
      await symlink(target, etc);
      assert.deepEqual(await checkLayers(directory, [image], undefined), []);
    });
  }

  it("says nothing where the blob is damaged, too", async () => {
    const [blob = ""] = await readdir(path.join(directory, "blobs/sha256"));
    await writeFile(path.join(directory, "blobs/sha256", blob), "damaged");
    await writeFile(path.join(directory, layer, "diff/readme"), "damaged");
    assert.deepEqual(await checkLayers(directory, [image], path.join(directory, "aside")), []);
  });

  for (let run = 0; run < runs; run++) {
    it(`names a damaged file, and puts the layer aside (${seed}.${run})`, async () => {
      const digest = createHash("sha256").update(`${seed} ${run}`).digest();
      const name = files[digest.readUInt16LE(0) % files.length] ?? assert.fail();
      const file = path.join(directory, layer, "diff", name);
      const content = await readFile(file);
      const at = digest.readUInt16LE(2) % content.length;
      content.writeUInt8(content.readUInt8(at) ^ 0x40, at);
      const kind = digest.readUInt8(4) % 3;
      if (kind === 2) {
        await rm(file);
      } else {
        await writeFile(file, kind === 1 ? content.subarray(0, at) : content);
      }
      const where = `${name} ${["changed", "cut", "removed"][kind]} at ${at}`;
      const [found, ...others] = await checkLayers(directory, [image], undefined);
      assert.deepEqual([found?.what, others], [layer, []], where);
      assert.ok(found?.fault.includes(JSON.stringify(name)), where);
      const aside = path.join(directory, "aside");
      assert.match((await checkLayers(directory, [image], aside))[0]?.outcome ?? "", /put aside/);
      assert.deepEqual(await readdir(path.join(directory, "layers")), []);
      assert.ok((await readdir(path.join(aside, layer))).includes("layer.json"));
      assert.deepEqual(await checkLayers(directory, [image], aside), []);
    });
  }
});
