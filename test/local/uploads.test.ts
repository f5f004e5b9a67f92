/** `docker import`'s uploads, which the host process takes in while they come: digests, and what is left of failures. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";

import { Daemon } from "../support/daemon.ts";
import { callApi } from "../support/call-api.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import { processOf } from "../support/processes.ts";
import { RawClient } from "../support/raw-client.ts";
import { SmallDisk } from "../support/small-disk.ts";
import { tarOf } from "../support/tar.ts";
import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const importPath = "/images/create?fromSrc=-&repo=uploaded&tag=";

/** Blobs, what is to become one, and unpacked layers. */
async function contentOf({ stateDir }: Daemon): Promise<readonly string[]> {
  const files = await Promise.all(
    ["blobs/sha256", "blobs/ingest", "layers"].map(async (name) =>
      (await readdir(join(stateDir, name))).map((file) => `${name}/${file}`),
    ),
  );
  return files.flat().toSorted();
}

async function untilContentIs(daemon: Daemon, expected: readonly string[]): Promise<void> {
  await until(async () => String(await contentOf(daemon)) === String(expected) || undefined);
}

const noise = randomBytes(3 * 1024 ** 2);
const rootfs = await tarOf([
  { name: "etc/", type: "directory" },
  { name: "etc/noise", content: noise },
]);

describe("an upload", () => {
  const { daemon } = withDaemon();

  for (const [name, upload] of [
    ["plain", rootfs],
    ["gzip", gzipSync(rootfs)],
    ["zstd", zstdCompressSync(rootfs)],
  ] as const) {
    test(`that is ${name} has the digest of its tar, and is stored as it came`, async () => {
      const { status, text } = await callApi(daemon.socket, "POST", importPath + name, { body: upload });
      assert.equal(status, 200, text);
      const digest = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
      const layers = await daemon.ok("inspect", "--format={{json .RootFS.Layers}}", `uploaded:${name}`);
      assert.deepEqual(JSON.parse(layers), [`sha256:${digest(rootfs)}`]);
      assert.ok((await contentOf(daemon)).includes(`blobs/sha256/${digest(upload)}`));
      await daemon.ok("create", `--name=of-${name}`, `uploaded:${name}`, "none");
      const { bytes } = await callApi(daemon.socket, "GET", `/containers/of-${name}/archive?path=/etc/noise`);
      assert.ok(bytes.includes(noise.subarray(0, 65_536)));
      await daemon.ok("rm", `of-${name}`);
    });
  }

  test("that is cut, or no tar, or leads outside leaves nothing", async () => {
    const before = await contentOf(daemon);
    const client = new RawClient(daemon.socket);
    client.send(`POST ${importPath}cut HTTP/1.1\r\nHost: d\r\nContent-Length: ${rootfs.length}\r\n\r\n`);
    client.send(rootfs.subarray(0, rootfs.length - 1024 ** 2));
    await until(async () => (await readdir(join(daemon.stateDir, "blobs/ingest"))).length > 0 || undefined);
    client.close();
    await untilContentIs(daemon, before);
    for (const [body, told] of [
      [rootfs.subarray(0, 100_000), /unexpected EOF/],
      [gzipSync(rootfs).subarray(0, 100_000), /unexpected EOF/],
      [Buffer.alloc(1024 ** 2, "garbage!"), /invalid tar header/],
      [await tarOf([{ name: "../escape", content: "x" }]), /escape/],
      [Buffer.from("\xfd7zXZ\0rest", "latin1"), /xz are not supported/],
    ] as const) {
      const { status, text } = await callApi(daemon.socket, "POST", `${importPath}bad`, { body });
      assert.equal(status, 400, text);
      assert.match(text, told);
      await untilContentIs(daemon, before);
    }
  });

  test("whose host process dies is told so, and leaves nothing", async () => {
    const before = await contentOf(daemon);
    const client = new RawClient(daemon.socket);
    client.send(`POST ${importPath}lost HTTP/1.1\r\nHost: d\r\nContent-Length: ${rootfs.length}\r\n\r\n`);
    client.send(rootfs.subarray(0, 1024 ** 2));
    await until(async () => (await readdir(join(daemon.stateDir, "blobs/ingest"))).length > 0 || undefined);
    process.kill(await processOf(daemon, "host"), "SIGKILL");
    assert.match(await client.answered(), /^HTTP\/1\.1 50[03] /);
    client.close();
    await untilContentIs(daemon, before);
    const { status, text } = await until(async () => {
      const answer = await callApi(daemon.socket, "POST", `${importPath}after`, { body: rootfs });
      return answer.status === 503 ? undefined : answer;
    });
    assert.equal(status, 200, text);
  });
});

test("an upload that the disk has no room for is refused in the system's words, and leaves nothing", async (t) => {
  const disk = await SmallDisk.mount({ sizeMib: 64 });
  const daemon = await Daemon.start({ stateDir: join(disk.path, "sockerless") });
  t.after(async () => {
    await daemon.stop();
    await disk[Symbol.asyncDispose]();
  });
  await daemon.ok("load", "--input", await busyboxArchiveFile());
  const before = await contentOf(daemon);
  const body = await tarOf([{ name: "large", content: randomBytes(40 * 1024 ** 2) }]);
  const { status, text } = await callApi(daemon.socket, "POST", `${importPath}large`, { body });
  assert.equal(status, 500, text);
  assert.match(text, /no space left on device/);
  await untilContentIs(daemon, before);
});
