/** `docker import URL`: what the server of the URL does, over loopback. */
import assert from "node:assert/strict";
import { createServer, type RequestListener } from "node:http";
import { describe, it, type TestContext } from "node:test";
import { gzipSync } from "node:zlib";

import type { ProgressLine } from "../../src/backends/images/progress.ts";
import { openImageStore, testRegistries, type TestImageStore } from "../support/image-store.ts";
import { listenDuring } from "../support/listen-here.ts";
import { tarOf } from "../support/tar.ts";

/** A server at `127.0.0.1:port`. */
async function serving(context: TestContext, listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  const port = await listenDuring(context, server);
  return `127.0.0.1:${port}`;
}

async function importUrl(store: TestImageStore, url: string, reference = "fetched:1") {
  const lines: ProgressLine[] = [];
  const imageId = await store.images.imports.fromUrl({
    url,
    reference,
    comment: "",
    changes: ["CMD sh"],
    platform: undefined,
    report: (line) => lines.push(line),
    signal: new AbortController().signal,
  });
  return { imageId, lines };
}

/** A store of which nothing is left that a failed import took in. */
async function assertEmpty(store: TestImageStore): Promise<void> {
  assert.deepEqual(await store.blobs(), []);
  assert.deepEqual(await store.ingests(), []);
}

describe("an import of a URL", () => {
  it("makes an image of what the server sends, and tells its way as Docker does", async (context) => {
    const store = await openImageStore(context);
    const archive = gzipSync(await tarOf([{ name: "a", content: "a" }]));
    const host = await serving(context, (request, response) => {
      if (request.url === "/moved") {
        response.writeHead(302, { location: "/root.tar.gz" }).end();
        return;
      }
      response.setHeader("content-length", archive.length);
      response.end(archive);
    });
    const { imageId, lines } = await importUrl(store, `${host}/moved`); // Without a scheme it is HTTP.
    assert.equal(store.images.containers.idOf("fetched:1"), imageId);
    assert.deepEqual(lines[0], { id: "", status: `Downloading from http://${host}/moved` });
    assert.deepEqual(lines.at(-1), {
      id: "",
      status: "Importing",
      current: archive.length,
      total: archive.length,
    });
    assert.deepEqual(store.images.catalog.inspect("fetched:1").config?.cmd?.values, ["/bin/sh", "-c", "sh"]);
  });

  it("tells how much has come also where the server does not say how much there is", async (context) => {
    const store = await openImageStore(context);
    const archive = await tarOf([{ name: "a", content: "a" }]);
    const host = await serving(context, (_request, response) => {
      response.write(archive.subarray(0, 600));
      response.end(archive.subarray(600));
    });
    const { lines } = await importUrl(store, `http://${host}/`);
    assert.deepEqual(lines.at(-1), { id: "", status: "Importing", current: archive.length });
  });

  for (const [status, kind] of [
    [400, "invalid"],
    [401, "unauthorized"],
    [403, "forbidden"],
    [404, "not-found"],
    [503, "system"],
  ] as const) {
    it(`fails as ${kind} where the server answers ${status}`, async (context) => {
      const store = await openImageStore(context);
      const host = await serving(context, (_request, response) => response.writeHead(status).end("  why\n"));
      await assert.rejects(importUrl(store, `http://${host}/x`), {
        kind,
        message: new RegExp(`^failed to GET http://${host}/x with status ${status} [A-Z][A-Za-z ]+: why$`),
      });
    });
  }

  it("stores nothing of an archive that breaks off", async (context) => {
    const store = await openImageStore(context);
    const archive = await tarOf([{ name: "a", content: "a" }]);
    const host = await serving(context, (_request, response) => {
      response.setHeader("content-length", archive.length);
      response.write(archive.subarray(0, 600), () => response.destroy());
    });
    await assert.rejects(importUrl(store, `http://${host}/x`), { kind: "system", message: /^Get "http/ });
    await assertEmpty(store);
  });

  it("fails where the server falls silent", async (context) => {
    const store = await openImageStore(context, {
      registry: { ...testRegistries, silenceMs: 50 },
    });
    const host = await serving(context, (_request, response) => response.write("half"));
    await assert.rejects(importUrl(store, `http://${host}/x`), {
      kind: "system",
      message: /i\/o timeout$/,
    });
    await assertEmpty(store);
  });

  it("ends when the client leaves", async (context) => {
    const store = await openImageStore(context);
    const client = new AbortController();
    const host = await serving(context, (_request, response) => {
      response.write("half", () => client.abort(new Error("left")));
    });
    const request = { url: host, reference: "", comment: "", changes: [], platform: undefined };
    await assert.rejects(
      store.images.imports.fromUrl({ ...request, report: () => {}, signal: client.signal }),
      /left/,
    );
    await assertEmpty(store);
  });

  it("never asks a metadata service, whoever names it", async (context) => {
    const store = await openImageStore(context);
    let target = "";
    const host = await serving(context, (_request, response) => {
      response.writeHead(302, { location: target }).end();
    });
    for (const address of [
      "169.254.169.254",
      "169.254.170.2",
      "2852039166",
      "[::ffff:a9fe:a9fe]",
      "[fe80::a9fe:a9fe]",
      "[fd00:ec2::254]",
      "168.63.129.16",
      "168.63.129.16:32526",
      "[::ffff:168.63.129.16]",
    ]) {
      target = `http://${address}/latest/meta-data/`;
      for (const url of [target, `http://${host}/`]) {
        await assert.rejects(importUrl(store, url), {
          kind: "forbidden",
          message: /this address is not asked: it gives the machine its credentials$/,
        });
      }
    }
  });

  it("is refused before anybody is asked where the name or the URL is none", async (context) => {
    const store = await openImageStore(context);
    let asked = 0;
    const host = await serving(context, (_request, response) => {
      asked++;
      response.end();
    });
    await assert.rejects(importUrl(store, host, "Upper"), { kind: "invalid" });
    await assert.rejects(importUrl(store, "http://[/"), {
      kind: "invalid",
      message: /^parse "http:\/\/\[\/": /,
    });
    await assert.rejects(importUrl(store, "ftp://host/x"), {
      kind: "system",
      message: /unsupported protocol scheme "ftp"$/,
    });
    assert.equal(asked, 0);
    await assert.rejects(importUrl(store, "http://nowhere.invalid/x"), {
      message: /lookup nowhere\.invalid( on \S+)?: no such host/,
    });
  });
});
