import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { type TestContext, test } from "node:test";

import { closeBehindAnswer, lingerMs, longestLingerMs } from "./raw-response.ts";

/** Larger than what a client has received that has read nothing. */
const answer = Buffer.alloc(400_000, "x");

/** A client that sends and does not read, and the server's side of it, whose answer has ended. */
async function answered(t: TestContext, mostMs: number): Promise<{ client: Socket; connection: Socket }> {
  const server = createServer({ allowHalfOpen: true }).listen(0, "127.0.0.1");
  t.after(() => server.close());
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const client = connect({ host: "127.0.0.1", port, allowHalfOpen: true }).on("error", () => {});
  const sending = setInterval(() => client.write("still here"), lingerMs / 10);
  t.after(() => {
    clearInterval(sending);
    client.destroy();
  });
  const [connection] = (await once(server, "connection")) as [Socket];
  connection.on("error", () => {});
  closeBehindAnswer(connection.end(answer), mostMs);
  return { client, connection };
}

test("a client that still sends reads the rest of its stream later", async (t) => {
  const { client, connection } = await answered(t, longestLingerMs);
  const closed = once(connection, "close").then(() => "closed");
  for (let sent = 0; sent < 20; sent += 1) {
    // Two silences long, if it were silent.
    assert.notEqual(await Promise.race([once(connection, "data"), closed]), "closed");
  }
  let read = 0;
  client.on("data", (bytes: Buffer) => {
    read += bytes.length;
  });
  await once(client, "end");
  assert.equal(read, answer.length);
});

test("a client that never stops sending is left after its time", async (t) => {
  const { connection } = await answered(t, lingerMs);
  await once(connection, "close");
});
