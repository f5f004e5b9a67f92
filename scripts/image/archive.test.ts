import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { after, before, describe, it } from "node:test";
import { gunzipSync } from "node:zlib";

import { extract } from "tar-stream";

import { writeArchive } from "./archive.ts";

interface Descriptor {
  readonly digest: string;
  readonly size: number;
}

describe("writeArchive", () => {
  let directory: string;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "sockerless-archive-"));
    await writeFile(join(directory, "program"), "#!");
  });
  after(() => rm(directory, { recursive: true }));

  async function write(name: string): Promise<string> {
    return await writeArchive({
      output: join(directory, name),
      reference: "thing:1.2",
      gzipLevel: 6,
      layers: [
        {
          comment: "all",
          files: [
            { path: "bin", mode: 0o755, directory: true },
            { path: "bin/program", mode: 0o755, source: join(directory, "program") },
            { path: "bin/other", mode: 0o777, link: "program" },
            { path: "text", mode: 0o600, owner: 10001, content: "hello" },
          ],
        },
      ],
      config: { Entrypoint: ["/bin/program"] },
    });
  }

  it("writes a layout whose every blob is what its digest says", async () => {
    const digest = await write("layout.tar");
    const files = await readTar(join(directory, "layout.tar"));
    const blob = ({ digest: wanted, size }: Descriptor): Buffer => {
      const content = files.get(`blobs/${wanted.replace(":", "/")}`)?.content ?? assert.fail(wanted);
      assert.equal(`sha256:${createHash("sha256").update(content).digest("hex")}`, wanted);
      assert.equal(content.length, size);
      return content;
    };
    const parse = (content: Buffer | undefined) => JSON.parse(String(content));
    assert.deepEqual(parse(files.get("oci-layout")?.content), { imageLayoutVersion: "1.0.0" });
    const [entry] = parse(files.get("index.json")?.content).manifests;
    assert.equal(entry.digest, digest);
    assert.equal(entry.annotations["org.opencontainers.image.ref.name"], "1.2");
    const manifest = parse(blob(entry));
    const config = parse(blob(manifest.config));
    const layer = gunzipSync(blob(manifest.layers[0]));
    assert.deepEqual(config.rootfs.diff_ids, [`sha256:${createHash("sha256").update(layer).digest("hex")}`]);
    assert.deepEqual(config.config, { Entrypoint: ["/bin/program"] });
    const [docker] = parse(files.get("manifest.json")?.content);
    assert.deepEqual(docker.RepoTags, ["thing:1.2"]);
    assert.ok(files.has(docker.Config) && files.has(docker.Layers[0]));
  });

  it("writes files, directories and links with their modes and owners", async () => {
    await write("files.tar");
    const files = await readTar(join(directory, "files.tar"));
    const layers = [...files.values()].map(({ content }) => content).filter((content) => content[0] === 0x1f);
    assert.equal(layers.length, 1);
    await writeFile(join(directory, "layer.tar"), gunzipSync(layers[0] ?? Buffer.of()));
    const entries = await readTar(join(directory, "layer.tar"));
    assert.deepEqual(
      [...entries].map(([name, { mode, owner, type, link, content }]) => [
        name,
        mode.toString(8),
        owner,
        type,
        link ?? content.toString(),
      ]),
      [
        ["bin/", "755", 0, "directory", ""],
        ["bin/program", "755", 0, "file", "#!"],
        ["bin/other", "777", 0, "symlink", "program"],
        ["text", "600", 10001, "file", "hello"],
      ],
    );
  });

  it("writes the same bytes for the same files", async () => {
    await write("first.tar");
    await write("second.tar");
    assert.deepEqual(
      await readFile(join(directory, "first.tar")),
      await readFile(join(directory, "second.tar")),
    );
  });

  it("leaves nothing behind when a file cannot be read", async () => {
    const before = await readdir(directory);
    const files = [{ path: "lost", mode: 0o644, source: join(directory, "lost") }];
    const options = { output: join(directory, "broken.tar"), reference: "x:1", gzipLevel: 6, config: {} };
    await assert.rejects(writeArchive({ ...options, layers: [{ comment: "", files }] }), { code: "ENOENT" });
    assert.deepEqual(await readdir(directory), before);
  });
});

interface TarEntry {
  readonly mode: number;
  readonly owner: number;
  readonly type: string;
  readonly link: string | undefined;
  readonly content: Buffer;
}

async function readTar(file: string): Promise<ReadonlyMap<string, TarEntry>> {
  const entries = new Map<string, TarEntry>();
  for await (const entry of createReadStream(file).pipe(extract())) {
    const { name, mode = 0, uid = 0, type, linkname } = entry.header;
    entries.set(name, {
      mode,
      owner: uid,
      type: type ?? "",
      link: linkname ?? undefined,
      content: await buffer(entry),
    });
  }
  return entries;
}
