/** `image.compression: zstd` by the real docker CLI, before Debian's `docker-registry`. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

import { Daemon } from "../support/daemon.ts";
import { busyboxArchiveFile, busyboxImage } from "../support/images.ts";
import { TestRegistry } from "../support/registry.ts";

test("images go out with layers of zstd, come back and run; one that was pulled keeps its digest", async () => {
  await using registry = await TestRegistry.start();
  await using daemon = await Daemon.start({ args: ["--image-compression=zstd"] });
  const ok = (...args: string[]): Promise<string> => daemon.ok(...args);
  const mediaTypes = async (repository: string): Promise<Set<string>> => {
    const response = await fetch(`http://${registry.host}/v2/${repository}/manifests/latest`, {
      headers: { accept: "application/vnd.oci.image.manifest.v1+json" },
    });
    const { layers } = (await response.json()) as { layers: { mediaType: string }[] };
    return new Set(layers.map(({ mediaType }) => mediaType));
  };
  const zstd = new Set(["application/vnd.oci.image.layer.v1.tar+zstd"]);
  const digestOf = (told: string): string => /digest: (sha256:\S+)/.exec(told)?.[1] ?? told;

  await ok("load", "--input", await busyboxArchiveFile());
  await ok("run", "--name=maker", "busybox", "sh", "-c", "echo made > /content");
  const made = `${registry.host}/made`;
  const id = await ok("commit", "--change", 'CMD ["cat", "/content"]', "maker", made);
  const digest = digestOf(await ok("push", made));
  assert.deepEqual(await mediaTypes("made"), zstd);
  await ok("rm", "maker");
  await ok("rmi", made, "busybox");

  await ok("pull", made);
  assert.equal(await ok("inspect", "--format={{.Id}}", made), id);
  assert.equal(await ok("run", "--rm", made), "made");
  const again = `${registry.host}/again`;
  await ok("tag", made, again);
  assert.equal(digestOf(await ok("push", again)), digest);

  // Pushed by another, with layers of gzip.
  const image = await busyboxImage();
  const { digest: theirs } = await registry.push(
    "gzip",
    "latest",
    image,
    image.layers.map((tar) => gzipSync(tar)),
  );
  await ok("pull", `${registry.host}/gzip`);
  await ok("tag", `${registry.host}/gzip`, `${registry.host}/gzip/again`);
  assert.equal(digestOf(await ok("push", `${registry.host}/gzip/again`)), theirs);
});
