import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { setImmediate } from "node:timers/promises";
import { MessageChannel } from "node:worker_threads";

import { ByteBudget } from "../../common/byte-budget.ts";
import { createLogger } from "../../common/logger.ts";
import { StreamLink } from "./stream-link.ts";
import { streamToClient } from "./stream-to-client.ts";
import type { ToWorker } from "./thread-messages.ts";
import { scratchDirectory } from "../../../test/support/scratch.ts";

/** A client's end of a connection and the server's. */
async function connected(t: TestContext): Promise<{ readonly client: Socket; readonly socket: Socket }> {
  const directory = scratchDirectory();
  const server = createServer({ allowHalfOpen: true });
  const path = join(directory, "socket");
  server.listen(path);
  await once(server, "listening");
  t.after(async () => {
    server.close();
  });
  const client = connect(path);
  client.pause();
  const [socket] = (await once(server, "connection")) as [Socket];
  return { client, socket };
}

test("what a client sent while there was no room for it arrives, also when its connection is reset", async (t) => {
  const { client, socket } = await connected(t);
  socket.on("error", () => {}); // the reset
  const { port1, port2 } = new MessageChannel();
  // A budget of nothing: the first bytes on their way leave no room for others until they are taken.
  const link = new StreamLink(port1, new Promise(() => {}), new ByteBudget(0));
  const sent: Buffer[] = [];
  const left = new Promise<void>((resolve) => {
    port2.on("message", (message: ToWorker) => {
      if (message.type === "input") {
        sent.push(...message.chunks.map((chunk) => Buffer.from(chunk)));
      } else if (message.type === "leave") {
        resolve();
      }
    });
  });
  t.after(() => port2.close());
  // The server ends an exchange when its connection closes, before anybody else hears of that.
  const exchange = new AbortController();
  socket.once("close", () => exchange.abort(new Error("the client is gone")));
  const logger = createLogger({ level: "silent", process: "test" });
  const keepTurn = (): void => assert.fail("nothing is handed on");
  const context = { logger, signal: exchange.signal, keepTurn, services: { handOver: undefined } };
  const onDetach = (): Promise<void> => Promise.resolve();
  const ended = streamToClient(context, socket, link, { stdin: true, multiplexed: false, onDetach });

  // Output that the client has not read makes its leaving a reset.
  socket.write("unread");
  client.write(Buffer.alloc(128 * 1024, "a"));
  while (!socket.isPaused()) {
    await setImmediate();
  }
  const before = socket.readableLength;
  client.write(Buffer.alloc(1000, "b"));
  while (socket.readableLength === before) {
    await setImmediate();
  }
  client.destroy();
  await left;
  assert.equal(Buffer.concat(sent).toString().replaceAll("a", "").length, 1000);
  await ended;
});
