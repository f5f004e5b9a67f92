/** The image service over HTTP/2 as any client has it. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { connect } from "node:net";
import path from "node:path";
import { describe, it, type TestContext } from "node:test";

import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Client, Code, createClient } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { pino } from "pino";

import { openImageStore, streamOf, type TestImageStore } from "../../../test/support/image-store.ts";
import {
  blobOf,
  configBlob,
  dockerArchive,
  type FixtureImage,
  imageId,
} from "../../../test/support/images.ts";
import { tarOf } from "../../../test/support/tar.ts";
import { untilTrue } from "../../../test/support/until.ts";
import { AgentReach } from "../../gen/sockerless/backend/v1/endpoint_pb.ts";
import {
  ImageService,
  type ImportImageRequestSchema,
  type LoadImageRequestSchema,
  type LoadImageResponse,
} from "../../gen/sockerless/backend/v1/image_pb.ts";
import { serveBackend } from "./server.ts";
import { registerImageService } from "../images/image-service.ts";

async function serve(
  context: TestContext,
): Promise<{ store: TestImageStore; client: Client<typeof ImageService> }> {
  const store = await openImageStore(context);
  const socket = path.join(store.directory, "backend.sock");
  const server = await serveBackend({
    address: `unix://${socket}`,
    tls: undefined,
    runDir: store.directory,
    register: (router) => registerImageService(router, store.images),
    resolveAgent: async () => undefined,
    logger: pino({ level: "silent" }),
  });
  const sessions = new Http2SessionManager(
    "http://localhost",
    {},
    { createConnection: () => connect(socket) },
  );
  const transport = createGrpcTransport({ baseUrl: "http://localhost", sessionManager: sessions });
  context.after(async () => {
    sessions.abort();
    await server.close();
  });
  return { store, client: createClient(ImageService, transport) };
}

const image: FixtureImage = {
  layers: [await tarOf([{ name: "a", content: "x".repeat(300_000) }])],
  config: {},
};

async function* upload(
  bytes: Uint8Array,
  options: { readonly end: boolean },
): AsyncGenerator<MessageInitShape<typeof LoadImageRequestSchema>> {
  yield { message: { case: "open", value: {} } };
  for await (const chunk of streamOf(bytes)) {
    yield { message: { case: "chunk", value: chunk } };
  }
  if (options.end) {
    yield { message: { case: "end", value: {} } };
  }
}

async function collect(messages: AsyncIterable<LoadImageResponse>): Promise<LoadImageResponse["message"][]> {
  const collected: LoadImageResponse["message"][] = [];
  for await (const { message } of messages) {
    collected.push(message);
  }
  return collected;
}

describe("the image service", () => {
  it("loads an archive, reports the images and ends with `end`", async (context) => {
    const { client } = await serve(context);
    const archive = await dockerArchive([{ image, tags: ["a:1", "b:1"] }]);
    const messages = await collect(client.loadImage(upload(archive, { end: true })));
    assert.deepEqual(
      messages.map(({ case: kind }) => kind),
      ["progress", "loaded", "loaded", "end"],
    );
    const { images } = await client.listImages({});
    assert.deepEqual(images[0]?.repoTags, ["a:1", "b:1"]);
  });

  it("stores nothing of an upload that lacks its `end`", async (context) => {
    const { client, store } = await serve(context);
    const archive = await dockerArchive([{ image, tags: ["a:1"] }]);
    await assert.rejects(collect(client.loadImage(upload(archive, { end: false }))), /unexpected EOF/);
    assert.deepEqual(await store.blobs(), []);
  });

  it("has a layer that came by itself for archives, as long as its call lasts", async (context) => {
    const { client, store } = await serve(context);
    const [layer = Buffer.of()] = image.layers;
    const [blob, config] = [blobOf(layer), configBlob(image)];
    store.preparer.uploads = {
      kind: "direct",
      expectArchive: () => Promise.reject(new Error("no archive comes by itself")),
      expect: async (_uploadId, blobPath) => {
        await writeFile(blobPath, layer);
        const { digest } = blob;
        const taken = { digest, size: layer.length, diffId: digest, tarSize: layer.length };
        return {
          address: { kind: "unix", path: "/host.sock" },
          taken: Promise.resolve({ ...taken, compression: undefined }),
          [Symbol.asyncDispose]: () => Promise.resolve(),
        };
      },
    };
    const archive = await tarOf([
      { name: "config", content: config.bytes },
      {
        name: "manifest.json",
        content: JSON.stringify([{ Config: "config", Layers: ["away"], RepoTags: ["a:1"] }]),
      },
    ]);
    const load = (): Promise<unknown> => collect(client.loadImage(upload(archive, { end: true })));
    const receive = async (use: () => Promise<void>): Promise<void> => {
      const left = new AbortController();
      const messages = client
        .receiveLayer({ access: { reach: AgentReach.LOCAL } }, { signal: left.signal })
        [Symbol.asyncIterator]();
      const ready = (await messages.next()).value?.message;
      assert.equal(ready?.case === "ready" && ready.value.endpoint?.address.value, "/host.sock");
      const taken = (await messages.next()).value?.message;
      assert.equal(taken?.case === "taken" && taken.value.diffId, blob.digest);
      await use();
      left.abort();
      await assert.rejects(messages.next());
    };
    await receive(async () => assert.deepEqual(await store.blobs(), [blob.digest]));
    await untilTrue(async () => (await store.blobs()).length === 0);
    await assert.rejects(load(), /open away: no such file or directory/);
    await receive(async () => void (await load()));
    const { image: loaded } = await client.inspectImage({ image: "a:1" });
    assert.deepEqual(loaded?.diffIds, [blob.digest]);
    assert.ok((await store.blobs()).includes(blob.digest));
  });

  it("takes no layer by itself from elsewhere", async (context) => {
    const { client } = await serve(context);
    const messages = [];
    for await (const { message } of client.receiveLayer({ access: { reach: AgentReach.LOCAL } })) {
      messages.push(message);
    }
    assert.deepEqual(
      messages.map((message) => message.case === "ready" && message.value.endpoint),
      [undefined],
    );
  });

  it("refuses an upload without `open`", async (context) => {
    const { client } = await serve(context);
    async function* wrong(): AsyncGenerator<MessageInitShape<typeof LoadImageRequestSchema>> {
      yield { message: { case: "end", value: {} } };
    }
    await assert.rejects(collect(client.loadImage(wrong())), /the first message must be open/);
  });

  it("imports, tags, inspects and removes", async (context) => {
    const { client, store } = await serve(context);
    async function* rootfs(): AsyncGenerator<MessageInitShape<typeof ImportImageRequestSchema>> {
      yield { message: { case: "open", value: { reference: "r", changes: ["USER app"], comment: "c" } } };
      yield { message: { case: "chunk", value: image.layers[0] as Buffer } };
      yield { message: { case: "end", value: {} } };
    }
    const { imageId: id } = await client.importImage(rootfs());
    await client.tagImage({ source: "r", target: "s:2" });
    const { image: detail } = await client.inspectImage({ image: "s:2" });
    assert.equal(detail?.id, id);
    assert.equal(detail?.config?.user, "app");
    assert.deepEqual(detail?.repoTags, ["r:latest", "s:2"]);
    const { removed } = await client.removeImage({ image: id, force: true });
    assert.deepEqual(
      removed.map(({ what }) => what.case),
      ["untagged", "untagged", "deleted", "deleted"],
    );
    assert.equal(store.state.images.size, 0);
  });

  it("removes a state of a build for its builder, but not once a user has named it", async (context) => {
    const { client, store } = await serve(context);
    async function* state(): AsyncGenerator<MessageInitShape<typeof LoadImageRequestSchema>> {
      yield { message: { case: "open", value: { ofBuild: true } } };
      yield { message: { case: "chunk", value: await dockerArchive([{ image, tags: [] }]) } };
      yield { message: { case: "end", value: {} } };
    }
    const id = imageId(image);
    await collect(client.loadImage(state()));
    await client.removeImage({ image: id, ofBuild: true });
    assert.equal(store.state.images.size, 0);

    await collect(client.loadImage(state()));
    await client.tagImage({ source: id, target: "named:1" });
    await assert.rejects(client.removeImage({ image: id, ofBuild: true }), { code: Code.NotFound });
    assert.deepEqual((await client.inspectImage({ image: id })).image?.repoTags, ["named:1"]);
  });

  it("answers a pull from a registry that is away with an error", async (context) => {
    const { client } = await serve(context);
    const pulling = client.pullImage({ reference: "127.0.0.1:1/x" });
    await assert.rejects(async () => {
      for await (const message of pulling) {
        assert.fail(`a message came: ${message.message.case}`);
      }
    }, /connection refused/);
  });

  it("gives an image the ID that it has everywhere", async (context) => {
    const { client } = await serve(context);
    const archive = await dockerArchive([{ image, tags: [] }]);
    const messages = await collect(client.loadImage(upload(archive, { end: true })));
    const loaded = messages.find((message) => message.case === "loaded");
    assert.equal(loaded?.value.imageId, imageId(image));
  });
});
