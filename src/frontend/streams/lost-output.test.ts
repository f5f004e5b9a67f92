import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { test } from "node:test";

import { keepReadingWithoutOutput, outputLoss } from "./lost-output.ts";
import { scratchDirectory } from "../../../test/support/scratch.ts";

test("a socket whose output is lost, by single writes or many, is read to the end", async (t) => {
  const directory = scratchDirectory();
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
  const path = join(directory, "socket");
  server.listen(path);
  await once(server, "listening");
  t.after(async () => {
    server.close();
  });
  for (const writes of [1, 3]) {
    const client = connect(path);
    const [socket] = (await once(server, "connection")) as [Socket];
    t.after(() => socket.destroy());
    keepReadingWithoutOutput(socket);
    client.write(Buffer.alloc(64 * 1024), () => client.destroy());
    await once(client, "close");
    socket.cork();
    for (let n = 0; n < writes; n += 1) {
      socket.write("output");
    }
    socket.uncork();
    const loss = outputLoss(socket);
    if (loss?.aborted === false) {
      await once(loss, "abort");
    }
    let bytes = 0;
    for await (const chunk of socket) {
      bytes += (chunk as Buffer).length;
    }
    assert.equal(bytes, 64 * 1024);
  }
});
