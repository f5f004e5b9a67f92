/**
 * Archives whose bytes go between a client and the agent of its container, or the host process, with nobody in between. The
 * tests of archives in test/api run here this way, in test/ecs the other.
 */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { readdir, truncate, writeFile } from "node:fs/promises";
import { get, type IncomingMessage, request } from "node:http";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { before, describe, test } from "node:test";
import { gunzipSync, gzipSync } from "node:zlib";

import { killAndAwaitNext } from "../support/processes.ts";
import { RawClient } from "../support/raw-client.ts";
import { tarOf } from "../support/tar.ts";
import { until, untilTrue } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";
import { inSoak, sampled } from "../support/soak.ts";

const { daemon, ok } = withDaemon({ args: ["--log-level", "debug"] });

/** More than kernel and clients buffer. */
const size = 16 * 1024 * 1024;
const tarBlock = 512;

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

/** How many archives were handed on. */
const handedOn = () => daemon.output.split("an archive is handed on").length - 1;

/** An answer of which nobody reads the body yet. */
async function begun(path: string): Promise<IncomingMessage> {
  const request = get({ socketPath: daemon.socket, path });
  const [response] = (await once(request, "response")) as [IncomingMessage];
  assert.equal(response.statusCode, 200);
  return response;
}

/** The answer to an archive that comes in pieces; `between` is awaited before the last one. */
async function put(
  path: string,
  pieces: readonly Uint8Array[],
  between: () => Promise<void>,
): Promise<number> {
  const upload = request({ socketPath: daemon.socket, path, method: "PUT" });
  const answered = once(upload, "response") as Promise<[IncomingMessage]>;
  for (const piece of pieces.slice(0, -1)) {
    upload.write(piece);
  }
  await between();
  upload.end(pieces.at(-1));
  const [response] = await answered;
  await buffer(response);
  return response.statusCode ?? 0;
}

describe("an archive of a running container", () => {
  for (const role of ["frontend", "backend"] as const) {
    test(`comes whole though the ${role} is killed meanwhile`, sampled(role === "backend"), async () => {
      const name = `from-${role}`;
      await ok("run", "-d", "--name", name, "busybox", "sleep", "1000");
      await ok("exec", name, "dd", "if=/dev/urandom", "of=/file", `bs=${size}`, "count=1");
      const [content] = (await ok("exec", name, "sha256sum", "/file")).split(" ");
      const before = handedOn();
      const archive = await begun(`/v1.51/containers/${name}/archive?path=/file`);
      const root = await begun(`/v1.51/containers/${name}/export`);
      await untilTrue(() => handedOn() - before === 2);
      await killAndAwaitNext(daemon, role);
      const tar = await buffer(archive);
      assert.equal(sha256(tar.subarray(tarBlock, tarBlock + size)), content);
      assert.ok(
        (await buffer(root)).includes(tar.subarray(tarBlock, tarBlock + size)),
        "it is in the export",
      );
      await untilTrue(async () => (await daemon.docker("version")).code === 0);
      await ok("rm", "-f", name);
    });

    test(
      `is written whole though the ${role} is killed meanwhile, and its client told`,
      sampled(role === "frontend"),
      async () => {
        const name = `to-${role}`;
        await ok("run", "-d", "--name", name, "busybox", "sleep", "1000");
        const content = randomBytes(size);
        const tar = await tarOf([{ name: "file", content }]);
        const before = handedOn();
        const path = `/v1.51/containers/${name}/archive?path=/`;
        const status = await put(path, [tar.subarray(0, size / 2), tar.subarray(size / 2)], async () => {
          await untilTrue(() => handedOn() - before === 1);
          await killAndAwaitNext(daemon, role);
        });
        assert.equal(status, 200);
        await untilTrue(async () => (await daemon.docker("version")).code === 0);
        assert.equal((await ok("exec", name, "sha256sum", "/file")).split(" ")[0], sha256(content));
        await ok("rm", "-f", name);
      },
    );
  }

  test("is written whole wherever the client's packets are cut, and however its body is framed", async () => {
    await ok("run", "-d", "--name", "cuts", "busybox", "sleep", "1000");
    const head = "PUT /v1.51/containers/cuts/archive?path=/ HTTP/1.1\r\nHost: docker\r\n";
    const inChunks = (tar: Buffer) => {
      const size = `${tar.length.toString(16)};extension\r\n`;
      return Buffer.concat([Buffer.from(size), tar, Buffer.from("\r\n0\r\nTrailer: x\r\n\r\n")]);
    };
    const text = "all of it";
    const before = handedOn();
    let count = 0;
    for (const [framing, framed] of [
      ["Content-Length: 2048", (tar: Buffer) => tar],
      ["Transfer-Encoding: chunked", inChunks],
      ["Transfer-Encoding: chunked\r\nExpect: 100-continue", inChunks],
    ] as const) {
      for (const cut of [0, 1, 6, tarBlock, -6, -1, Number.POSITIVE_INFINITY]) {
        count += 1;
        const body = framed(await tarOf([{ name: `cut-${count}`, content: `${text}\n` }]));
        const client = new RawClient(daemon.socket);
        client.send(Buffer.concat([Buffer.from(`${head}${framing}\r\n\r\n`), body.subarray(0, cut)]));
        await untilTrue(() => handedOn() - before === count);
        client.send(body.subarray(cut));
        await client.end();
        client.close();
        const word = framing.includes("Expect") && cut === 0 ? "HTTP/1.1 100 Continue\r\n\r\n" : "";
        assert.ok(client.bytes.toString().startsWith(`${word}HTTP/1.1 200 OK\r\n`), client.bytes.toString());
      }
    }
    const written = await ok("exec", "cuts", "sh", "-c", "cat /cut-*");
    assert.equal(written, `${text}\n`.repeat(count).trim());
    await ok("rm", "-f", "cuts");
  });

  for (const [what, body, answer] of [
    ["not framed as HTTP says", "x\r\n", /400 Bad Request\r\n.*invalid byte in chunk length/s],
    ["no tar", "5\r\nhello\r\n0\r\n\r\n", /500 Internal Server Error\r\n/],
  ] as const) {
    test(`that is ${what} is refused`, async () => {
      await ok("run", "-d", "--name", "refuses", "busybox", "sleep", "1000");
      const client = new RawClient(daemon.socket);
      client.send("PUT /v1.51/containers/refuses/archive?path=/ HTTP/1.1\r\nHost: docker\r\n");
      client.send(`Transfer-Encoding: chunked\r\n\r\n${body}`);
      await client.end();
      assert.match(client.bytes.toString(), answer);
      client.close();
      await ok("rm", "-f", "refuses");
    });
  }
});

const blobsIn = (folder: "sha256" | "ingest") => readdir(join(daemon.stateDir, "blobs", folder));

describe("an archive of images", () => {
  const content = randomBytes(size);
  const blobs = () => blobsIn("sha256");

  /** An image of one layer of {@link size}. @returns the layer's tar */
  async function imported(name: string): Promise<Buffer> {
    const tar = await tarOf([{ name: `for ${name}`, content }]);
    const before = handedOn();
    const upload = request({
      socketPath: daemon.socket,
      path: `/v1.51/images/create?fromSrc=-&repo=${name}`,
      method: "POST",
    });
    const answered = once(upload, "response") as Promise<[IncomingMessage]>;
    upload.end(tar);
    const [response] = await answered;
    assert.equal(response.statusCode, 200, String(await buffer(response)));
    await untilTrue(() => handedOn() - before === 1);
    return tar;
  }

  /** The archive as it comes through the frontend, to a client that knows no chunks. */
  async function relayed(path: string): Promise<Buffer> {
    const client = new RawClient(daemon.socket);
    client.send(`GET ${path} HTTP/1.0\r\nHost: docker\r\n\r\n`);
    await client.end();
    client.close();
    return client.body;
  }

  test("is the same through the frontend, and comes whole though that is killed", inSoak, async () => {
    const layer = await imported("saved");
    const path = "/v1.51/images/saved/get";
    const before = handedOn();
    const expected = await relayed(path);
    assert.equal(handedOn(), before);
    assert.ok(expected.includes(layer));
    const archive = await begun(path);
    await untilTrue(() => handedOn() - before === 1);
    await killAndAwaitNext(daemon, "frontend");
    assert.ok((await buffer(archive)).equals(expected));
    await untilTrue(async () => (await daemon.docker("version")).code === 0);
    await ok("rmi", "saved");
  });

  test("is whole or cut where the backend is killed, and whole behind that", async () => {
    await imported("killed");
    const path = "/v1.51/images/killed/get";
    const expected = await relayed(path);
    const before = handedOn();
    const archive = await begun(path);
    await untilTrue(() => handedOn() - before === 1);
    await killAndAwaitNext(daemon, "backend");
    const came = await buffer(archive).catch((error: NodeJS.ErrnoException) => error.code);
    assert.ok(came === "ECONNRESET" || expected.equals(came as Buffer), String(came));
    await untilTrue(async () => (await daemon.docker("version")).code === 0);
    const again = handedOn();
    assert.ok((await buffer(await begun(path))).equals(expected));
    await untilTrue(() => handedOn() - again === 1);
    await ok("rmi", "killed");
  });

  test("keeps what it has of an image that is removed, until its client leaves", async () => {
    const layer = sha256(await imported("removed"));
    const before = handedOn();
    const archive = await begun("/v1.51/images/removed/get");
    await untilTrue(() => handedOn() - before === 1);
    await ok("rmi", "removed");
    assert.ok((await blobs()).includes(layer));
    archive.destroy();
    await untilTrue(async () => !(await blobs()).includes(layer));
  });

  test("is cut where a layer is damaged", async () => {
    const layer = sha256(await imported("damaged"));
    const blob = join(daemon.stateDir, "blobs", "sha256", layer);
    await truncate(blob, size / 2);
    const before = handedOn();
    await assert.rejects(buffer(await begun("/v1.51/images/damaged/get")), { code: "ECONNRESET" });
    await untilTrue(() => handedOn() - before === 1);
    await ok("rmi", "damaged");
  });
});

/** An upload of which half has come. */
async function halfOf(target: string, archive: Buffer): Promise<RawClient> {
  const before = handedOn();
  const client = new RawClient(daemon.socket);
  client.send(`POST ${target} HTTP/1.1\r\nHost: docker\r\n`);
  client.send(`Content-Length: ${archive.length}\r\n\r\n`);
  await untilTrue(() => handedOn() - before === 1);
  client.send(archive.subarray(0, archive.length / 2));
  await untilTrue(async () => (await blobsIn("ingest")).length > 0);
  return client;
}

for (const role of ["frontend", "backend"] as const) {
  test(`an archive that is imported is told to have failed where the ${role} is killed, and leaves nothing`, async () => {
    const [blobs, tar] = [
      await blobsIn("sha256"),
      await tarOf([{ name: "file", content: randomBytes(size) }]),
    ];
    const client = await halfOf("/v1.51/images/create?fromSrc=-&repo=cut", tar);
    await killAndAwaitNext(daemon, role);
    client.send(tar.subarray(tar.length / 2));
    await until(() => client.ended || client.closed || undefined);
    client.close();
    assert.match(client.bytes.toString(), /^$|^HTTP\/1.1 5/);
    await untilTrue(async () => (await daemon.docker("version")).code === 0);
    await untilTrue(async () => (await blobsIn("ingest")).length === 0);
    assert.equal((await daemon.docker("inspect", "cut")).code, 1);
    assert.deepEqual(await blobsIn("sha256"), blobs);
  });
}

test("a pull keeps its connection", async () => {
  const client = new RawClient(daemon.socket);
  const pull =
    "POST /v1.51/images/create?fromImage=UPPER HTTP/1.1\r\nHost: docker\r\nContent-Length: 0\r\n\r\n";
  client.send(pull);
  await client.answered();
  client.send(pull);
  await until(() => client.bytes.toString().split("HTTP/1.1 400").length === 3 || undefined);
  client.close();
});

describe("an archive of images that is loaded", () => {
  let archive = Buffer.of();
  let imageId = "";

  const half = (): Promise<RawClient> => halfOf("/v1.51/images/load", archive);

  /** Waits until the daemon answers, and nothing of an archive is there. */
  async function nothingIsLeft(): Promise<void> {
    await untilTrue(async () => (await daemon.docker("version")).code === 0);
    await untilTrue(async () => (await blobsIn("ingest")).length === 0);
    assert.equal((await daemon.docker("inspect", imageId)).code, 1);
    const config = imageId.slice("sha256:".length);
    await untilTrue(async () => !(await blobsIn("sha256")).includes(config));
  }

  before(async () => {
    const tar = await tarOf([{ name: "content", content: randomBytes(size) }]);
    const file = join(daemon.directory, "layer.tar");
    await writeFile(file, tar);
    await ok("import", file, "loaded");
    imageId = await ok("inspect", "-f", "{{.Id}}", "loaded");
    const before = handedOn();
    archive = await buffer(await begun("/v1.51/images/loaded/get"));
    await untilTrue(() => handedOn() > before);
    await ok("rmi", "loaded");
  });

  test("gives the image back, once and again", async () => {
    const file = join(daemon.directory, "archive.tar");
    await writeFile(file, archive);
    for (const input of [file, file]) {
      const before = handedOn();
      assert.equal(await ok("load", "-i", input), "Loaded image: loaded:latest");
      await untilTrue(() => handedOn() - before === 1);
    }
    assert.equal(await ok("inspect", "-f", "{{.Id}}", "loaded"), imageId);
    const before = handedOn();
    assert.ok((await buffer(await begun("/v1.51/images/loaded/get"))).equals(archive));
    await untilTrue(() => handedOn() - before === 1);
    await ok("rmi", "loaded");
    await nothingIsLeft();
  });

  for (const role of ["frontend", "backend"] as const) {
    test(`is told to have failed where the ${role} is killed, and leaves nothing`, async () => {
      const client = await half();
      await killAndAwaitNext(daemon, role);
      client.send(archive.subarray(archive.length / 2));
      await until(() => client.ended || client.closed || undefined);
      client.close();
      const answer = client.bytes.toString();
      assert.doesNotMatch(answer, /Loaded image/);
      assert.match(answer, role === "frontend" ? /^HTTP\/1.1 5/ : /error|^$/i);
      await nothingIsLeft();
    });
  }

  test("leaves nothing where its client leaves", async () => {
    (await half()).close();
    await nothingIsLeft();
  });

  // In the second header, and right behind the last file.
  for (const cut of [1000, -1000]) {
    test(`is refused in band where it is cut at ${cut}`, async () => {
      const before = handedOn();
      const part = archive.subarray(0, cut);
      const client = new RawClient(daemon.socket);
      client.send("POST /v1.51/images/load HTTP/1.1\r\nHost: docker\r\n");
      client.send(`Content-Length: ${part.length}\r\n\r\n`);
      client.send(part);
      await client.end();
      client.close();
      assert.match(client.bytes.toString(), /^HTTP\/1.1 200 OK\r\n.*"error":"unexpected EOF"/s);
      await untilTrue(() => handedOn() - before === 1);
      await nothingIsLeft();
    });
  }
});

/** A layer of a few kilobytes that takes minutes: its entries are behind a chain of long links. */
async function slowLayer(): Promise<Buffer> {
  const links = Array.from({ length: 30 }, (_, number) => ({
    name: `link${number}`,
    type: "symlink" as const,
    linkname: `${"d/../".repeat(700)}${number === 0 ? "d" : `link${number - 1}`}`,
  }));
  const files = Array.from({ length: 20_000 }, (_, number) => ({ name: `link29/${number}` }));
  return gzipSync(await tarOf([{ name: "d", type: "directory" }, ...links, ...files]));
}

describe("unpacking ends where the client leaves behind its whole upload", () => {
  const layers = () => readdir(join(daemon.stateDir, "layers"));
  const isUnpacking = async () => (await layers()).some((name) => name.startsWith(".unpacking-"));

  for (const [what, target, archiveOf] of [
    ["an import", "/v1.51/images/create?fromSrc=-&repo=slow", (layer: Buffer) => layer],
    [
      "a load",
      "/v1.51/images/load",
      async (layer: Buffer) => {
        const rootfs = { type: "layers", diff_ids: [`sha256:${sha256(gunzipSync(layer))}`] };
        const config = JSON.stringify({ architecture: "amd64", os: "linux", rootfs });
        const manifest = [{ Config: "config.json", RepoTags: ["slow:latest"], Layers: ["layer.tar"] }];
        return await tarOf([
          { name: "manifest.json", content: JSON.stringify(manifest) },
          { name: "config.json", content: config },
          { name: "layer.tar", content: layer },
        ]);
      },
    ],
  ] as const) {
    test(`of ${what}`, async () => {
      const before = await layers();
      const archive = await archiveOf(await slowLayer());
      const client = new RawClient(daemon.socket);
      client.send(`POST ${target} HTTP/1.1\r\nHost: docker\r\nContent-Length: ${archive.length}\r\n\r\n`);
      client.send(archive);
      await untilTrue(isUnpacking);
      client.close();
      await untilTrue(async () => !(await isUnpacking()));
      assert.deepEqual(await layers(), before);
    });
  }
});
