/** Tests of the client that is measured with, as the bench has it, before a daemon that is none. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test } from "node:test";

import { processesBelow } from "../support/processes.ts";
import { type Call, MeasuringClient } from "./measuring-client.ts";
import { scratchDirectory } from "../support/scratch.ts";

/** Gives work a client of a server that answers so, and the directory of its socket. */
async function withClient(
  answer: RequestListener,
  work: (client: MeasuringClient, directory: string) => Promise<void>,
  interrupted = new AbortController().signal,
): Promise<void> {
  await using resources = new AsyncDisposableStack();
  const directory = scratchDirectory();
  const server = createServer(answer).listen(join(directory, "s"));
  await once(server, "listening");
  resources.defer(() => {
    server.close();
    server.closeAllConnections();
  });
  const client = resources.use(await MeasuringClient.start(join(directory, "s"), interrupted));
  assert.equal(processesBelow(directory).length, 1);
  await work(client, directory);
  await client[Symbol.asyncDispose]();
  assert.deepEqual(processesBelow(directory), []);
}

const put: Call = { work: "call", method: "PUT", path: "/archive", bodyType: "application/x-tar" };

test("a measure is timed with its body, or fails with the words of the daemon, and the next one is timed again", async () => {
  const bodies: string[] = [];
  const answer: RequestListener = async (request, response) => {
    bodies.push(await text(request));
    response.statusCode = bodies.length === 2 ? 507 : 200;
    response.end("some words");
  };
  await withClient(answer, async (client) => {
    const bytes = "some words".length;
    const sent = ["ä\n".repeat(100_000), "", "{}\n"];
    assert.ok((await client.time({ ...put, bytes }, sent[0])) > 0);
    await assert.rejects(client.time({ ...put, bytes }), /^Error: PUT \/archive: 507 some words$/);
    assert.ok((await client.time({ ...put, bytes }, Buffer.from(sent[2] ?? ""))) > 0);
    assert.deepEqual(bodies, sent);
    await assert.rejects(client.time({ ...put, bytes: bytes + 1 }), /10 bytes came back/);
  });
});

test("an interruption ends a measure, and the client with it", async () => {
  const controller = new AbortController();
  const isUnderWay = Promise.withResolvers<void>();
  await withClient(
    () => isUnderWay.resolve(),
    async (client) => {
      const time = client.time(put);
      await isUnderWay.promise;
      controller.abort("interrupted by a test");
      await assert.rejects(time, (error) => error === "interrupted by a test");
      await assert.rejects(client.time(put), (error) => error === "interrupted by a test");
    },
    controller.signal,
  );
});

test("a client that is no more fails its measures", async () => {
  const isUnderWay = Promise.withResolvers<void>();
  await withClient(
    () => isUnderWay.resolve(),
    async (client, directory) => {
      const time = client.time(put);
      await isUnderWay.promise;
      process.kill(Number.parseInt(processesBelow(directory)[0] ?? "", 10), "SIGKILL");
      await assert.rejects(time, /the client that is measured with has ended/);
      await assert.rejects(client.time(put), /the client that is measured with has ended/);
    },
  );
});
