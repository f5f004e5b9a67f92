/** An upload over a real socket. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { test, type TestContext } from "node:test";

import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Client, createClient, type ServiceImpl } from "@connectrpc/connect";

import { createBackendTransport } from "../../src/frontend/backend/transport.ts";
import { ImageService, type ImportImageRequestSchema } from "../../src/gen/sockerless/backend/v1/image_pb.ts";
import { createLogger } from "../../src/common/logger.ts";
import { invalid } from "../../src/common/errors.ts";
import { serveBackend } from "../../src/backends/server/server.ts";
import { scratchDirectory } from "../support/scratch.ts";

type Import = ServiceImpl<typeof ImageService>["importImage"];

/** A client whose imports go to that method. */
async function clientOf(t: TestContext, importImage: Import): Promise<Client<typeof ImageService>> {
  const directory = scratchDirectory();
  const server = await serveBackend({
    address: `unix://${directory}/backend.sock`,
    tls: undefined,
    runDir: directory,
    register: (router) => router.service(ImageService, { importImage }),
    resolveAgent: () => Promise.resolve(undefined),
    logger: createLogger({ level: "silent", process: "test" }),
  });
  const backend = createBackendTransport({ address: server.address });
  t.after(async () => {
    backend.close();
    await server.close();
  });
  return createClient(ImageService, backend.transport);
}

/** Sizes at which lengths take one byte more, and one beyond HTTP/2's windows. */
const sizes = [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 9_000_000];

async function* upload(
  chunks: readonly Uint8Array<ArrayBuffer>[],
): AsyncGenerator<MessageInitShape<typeof ImportImageRequestSchema>> {
  yield { message: { case: "open" as const, value: { reference: "name", changes: ["a", "b"] } } };
  for (const value of chunks) {
    yield { message: { case: "chunk" as const, value } };
  }
  yield { message: { case: "end" as const, value: {} } };
}

test("an upload comes as it was sent, whatever its chunks", async (t) => {
  const client = await clientOf(t, async (requests) => {
    const hash = createHash("sha256");
    const told: string[] = [];
    for await (const { message } of requests) {
      if (message.case === "chunk") {
        hash.update(message.value);
      } else {
        told.push(message.case === "open" ? message.value.changes.join() : (message.case ?? ""));
      }
    }
    return { imageId: `${told.join(" ")} ${hash.digest("hex")}` };
  });
  const chunks = sizes.map((size, index) => Buffer.alloc(size, index + 1));
  const digest = createHash("sha256").update(Buffer.concat(chunks)).digest("hex");
  assert.equal((await client.importImage(upload(chunks))).imageId, `a,b end ${digest}`);
});

test("a refusal comes in its words, and closes the upload's stream at both ends, though nobody reads the rest", async (t) => {
  const closed = Promise.withResolvers<void>();
  const hear = (): void => closed.resolve();
  subscribe("http2.server.stream.close", hear);
  t.after(() => unsubscribe("http2.server.stream.close", hear));
  const client = await clientOf(t, async (requests) => {
    for await (const _open of requests) {
      break;
    }
    throw invalid("not this one");
  });
  await assert.rejects(client.importImage(upload(sizes.map((size) => Buffer.alloc(size)))), {
    rawMessage: "not this one",
  });
  await closed.promise;
});

test("a sender that fails leaves the receiver with an error, and is told its own", async (t) => {
  const received = Promise.withResolvers<unknown>();
  const client = await clientOf(t, async (requests) => {
    let isEnded = false;
    try {
      for await (const { message } of requests) {
        isEnded ||= message.case === "end";
      }
    } finally {
      received.resolve(isEnded);
    }
    throw invalid("cut");
  });
  async function* failing() {
    yield { message: { case: "chunk" as const, value: Buffer.alloc(100_000) } };
    throw new Error("the client is gone");
  }
  await assert.rejects(client.importImage(failing()), /the client is gone/);
  assert.equal(await received.promise, false);
});
