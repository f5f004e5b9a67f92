import assert from "node:assert/strict";
import { createServer } from "node:http";
import { it, type TestContext } from "node:test";

import { openImageStore, streamOf } from "../../../test/support/image-store.ts";
import { dockerArchive } from "../../../test/support/images.ts";
import { listenDuring } from "../../../test/support/listen-here.ts";
import { tarOf } from "../../../test/support/tar.ts";

const signal = new AbortController().signal;

/** A registry that has nothing and takes everything; answers its host. */
async function openRegistry(context: TestContext): Promise<string> {
  const server = createServer((request, response) => {
    const status = { GET: 200, HEAD: 404, POST: 202 }[request.method ?? ""] ?? 201;
    request.resume().once("end", () => response.writeHead(status, { location: "/v2/upload" }).end());
  });
  return `127.0.0.1:${await listenDuring(context, server)}`;
}

it("a push looks at all images as often for many layers as for one", async (context) => {
  const host = await openRegistry(context);
  const { images, state } = await openImageStore(context);
  const looks = context.mock.method(state.images, "values");
  const looksOf = async (count: number): Promise<number> => {
    const reference = `${host}/app:${count}`;
    const layers = await Promise.all(
      Array.from({ length: count }, (_, n) => tarOf([{ name: `${count}-${n}` }])),
    );
    const archive = streamOf(await dockerArchive([{ image: { layers, config: {} }, tags: [reference] }]));
    await images.archives.load({ archive, platform: undefined, report: () => {}, signal });
    looks.mock.resetCalls();
    const options = { announce: true, platform: undefined, auth: undefined, report: () => {}, signal };
    await images.pushes.push({ ...options, reference });
    return looks.mock.callCount();
  };
  assert.deepEqual([await looksOf(1), await looksOf(10)], [1, 1]);
});
