/** Pulls from registries that lie, answer without end or lead in circles: each ends with an error, and leaves nothing. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, describe, it } from "node:test";

import { openImageStore, type TestImageStore } from "../support/image-store.ts";
import { tarOf } from "../support/tar.ts";

type Answer = (request: IncomingMessage, response: ServerResponse, path: string) => void;

const manifestType = "application/vnd.oci.image.manifest.v1+json";
const indexType = "application/vnd.oci.image.index.v1+json";
const layerType = "application/vnd.oci.image.layer.v1.tar";
const mebibyte = Buffer.alloc(1024 * 1024, "x");
const digestOf = (bytes: Buffer | string): string =>
  `sha256:${createHash("sha256").update(bytes).digest("hex")}`;

const layer = await tarOf([{ name: "a", content: "a".repeat(5_000) }]);
const config = Buffer.from(
  JSON.stringify({
    architecture: "amd64",
    os: "linux",
    rootfs: { type: "layers", diff_ids: [digestOf(layer)] },
  }),
);
const described = (mediaType: string, bytes: Buffer, fields: object = {}): object => ({
  mediaType,
  digest: digestOf(bytes),
  size: bytes.length,
  ...fields,
});
const manifestOf = (layers: readonly object[], configFields: object = {}): Buffer =>
  Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: manifestType,
      config: described("application/vnd.oci.image.config.v1+json", config, configFields),
      layers,
    }),
  );
const plain = manifestOf([described(layerType, layer)]);

/** Writes for as long as somebody reads. */
const endless: Answer = ({ method }, response) => {
  if (method === "HEAD") {
    response.end(); // It has no body that could be long.
    return;
  }
  const write = (): void => {
    while (!response.destroyed && response.write(mebibyte)) {
      // Until the client is behind.
    }
  };
  response.on("drain", write);
  write();
};
const sends =
  (bytes: Buffer | string, type = manifestType, status = 200): Answer =>
  (_, response) =>
    response.writeHead(status, { "Content-Type": type }).end(bytes);
/** Sends a body and cuts the connection; its length is another one. */
const sendsCut =
  (bytes: Buffer, length: number): Answer =>
  (_, response) => {
    response.writeHead(200, { "Content-Type": manifestType, "Content-Length": length });
    response.write(bytes, () => response.destroy());
  };
let hops = 0;
const redirects =
  (to: (path: string) => string): Answer =>
  (_, response, path) =>
    response.writeHead(307, { Location: to(path) }).end();
const challenge =
  (realm: string): Answer =>
  (_, response) =>
    response.writeHead(401, { "WWW-Authenticate": `Bearer realm="${realm}",service="s"` }).end();

/** An image whose manifest, configuration or layer is answered so; the rest is whole. */
interface Attack {
  readonly manifest?: Answer;
  readonly config?: Answer;
  readonly layer?: Answer;
  /** Answers every request. */
  readonly all?: Answer;
}

const withLayer = (fields: object): Attack => ({
  manifest: sends(manifestOf([described(layerType, layer, fields)])),
});
const listOf = (manifests: readonly object[]): Answer =>
  sends(JSON.stringify({ schemaVersion: 2, mediaType: indexType, manifests }), indexType);
const nested = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: indexType, manifests: [] }));
const forThis = { platform: { os: "linux", architecture: "amd64" } };

const attacks: Readonly<Record<string, Attack>> = {
  "a manifest without end": { manifest: endless },
  "a manifest that announces 10 TB": { manifest: sendsCut(plain, 10 ** 13) },
  "a manifest of 5 MB": { manifest: sends(Buffer.concat(Array.from({ length: 5 }, () => mebibyte))) },
  "a manifest that is cut": { manifest: sendsCut(plain.subarray(0, 50), plain.length) },
  "a manifest of brackets": { manifest: sends("[".repeat(3_000_000)) },
  "a manifest of objects in objects": { manifest: sends('{"config":'.repeat(300_000)) },
  "a manifest that is HTML": { manifest: sends("<html>", "text/html") },
  "a manifest of twenty thousand layers": {
    manifest: sends(manifestOf(Array.from({ length: 20_000 }, () => described(layerType, layer)))),
  },
  "an index of twenty thousand manifests": {
    manifest: listOf(Array.from({ length: 20_000 }, () => described(manifestType, plain))),
  },
  "an index in an index": { manifest: listOf([described(indexType, nested, forThis)]) },
  "an index whose manifest is another one": {
    manifest: listOf([{ ...described(manifestType, plain, forThis), digest: digestOf("other") }]),
  },
  "a configuration without end": { config: endless },
  "a configuration of another digest": { config: sends(Buffer.concat([config, Buffer.from(" ")])) },
  "a configuration that announces a terabyte": {
    manifest: sends(manifestOf([described(layerType, layer)], { size: 1e12 })),
    config: endless,
  },
  "a layer without end": { layer: endless },
  "a layer that is longer than it says": { layer: sends(Buffer.concat([layer, mebibyte])) },
  "a layer that is cut at each try": { layer: sendsCut(layer.subarray(0, 10), layer.length) },
  "a layer of other bytes": { layer: sends(Buffer.alloc(layer.length, "y")) },
  "a layer in a range that nobody asked for": {
    layer: (_, response) =>
      response
        .writeHead(206, { "Content-Range": `bytes 100-${layer.length - 1}/${layer.length}` })
        .end(layer.subarray(100)),
  },
  "a layer of a negative size": withLayer({ size: -1 }),
  "a layer of half a byte": withLayer({ size: 0.5 }),
  "a layer beyond whole numbers": withLayer({ size: 2 ** 63 }),
  "a layer whose digest is a path": withLayer({ digest: "sha256:../../../../etc/passwd" }),
  "a layer of another algorithm": withLayer({ digest: `md5:${"a".repeat(32)}` }),
  "a redirect to itself": { all: redirects((path) => path) },
  "redirects without end": { manifest: redirects((path) => `${path}?${hops++}`) },
  "a redirect to a file": { layer: redirects(() => "file:///etc/passwd") },
  "a redirect to what is no address": { layer: redirects(() => "http://") },
  "refusals without end": { all: (_, response) => endless(_, response.writeHead(500), "") },
  "a header of a megabyte": {
    all: (_, response) => response.writeHead(200, { "X-Long": "x".repeat(1_000_000) }).end(),
  },
  "a challenge whose realm is a file": { all: challenge("file:///etc/passwd") },
  "a challenge whose realm is itself": { all: challenge("/v2/") },
  "an answer of another protocol": { all: (_, response) => response.socket?.end("SSH-2.0-OpenSSH_9.9\r\n") },
};

describe("a registry that means harm", () => {
  let port = 0;
  const names = Object.keys(attacks);
  const asked = new Map<string, number>();
  const server = createServer((request, response) => {
    const url = request.url ?? "";
    const name =
      names[Number(/\/v2\/attack-(\d+)\//.exec(url)?.[1] ?? /^\/v2\/\?attack=(\d+)/.exec(url)?.[1])] ?? "";
    asked.set(name, (asked.get(name) ?? 0) + 1);
    const { manifest = sends(plain), config: answerConfig, layer: answerLayer, all } = attacks[name] ?? {};
    response.on("error", () => {});
    if (name === "") {
      response.end("{}"); // The registry's own page.
    } else if (all !== undefined) {
      all(request, response, url);
    } else if (!url.includes("/blobs/")) {
      manifest(request, response, url);
    } else if (url.includes(digestOf(config))) {
      (answerConfig ?? sends(config))(request, response, url);
    } else {
      (answerLayer ?? sends(layer))(request, response, url);
    }
  });

  before(async () => {
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    ({ port } = server.address() as AddressInfo);
  });
  after(() => {
    server.closeAllConnections();
    server.close();
  });

  async function pull(store: TestImageStore, name: string): Promise<void> {
    const work = store.images.pulls.pull({
      reference: `127.0.0.1:${port}/attack-${names.indexOf(name)}:latest`,
      platform: undefined,
      auth: undefined,
      report: () => {},
      signal: new AbortController().signal,
    });
    let isOver: boolean = false;
    const over = (): void => {
      isOver = true;
    };
    work.then(over, over);
    while (!isOver) {
      await store.clock.advance(store.clock.sleeping > 0 ? 1000 : 0);
    }
    await work;
  }

  for (const name of names) {
    it(`is left with an error: ${name}`, { timeout: 120_000 }, async (context) => {
      const store = await openImageStore(context);
      const before = process.memoryUsage().rss;
      await assert.rejects(pull(store, name));
      const grown = (process.memoryUsage().rss - before) / 1024 ** 2;
      assert.ok(grown < 512, `${grown} MiB more`);
      assert.ok((asked.get(name) ?? 0) <= 40, `asked ${asked.get(name)} times`);
      assert.deepEqual([await store.ingests(), store.preparer.prepared], [[], []]);
    });
  }
});
