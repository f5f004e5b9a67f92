import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { describe, it } from "node:test";
import { setImmediate } from "node:timers/promises";

import { connectDirectly, joinDirectly } from "./direct-connection.ts";
import { listenTcp } from "./tcp-port.ts";
import { listenHere } from "../../../test/support/listen-here.ts";

async function listening(serve: (socket: Socket) => void) {
  const server = createServer({ allowHalfOpen: true }, serve);
  return { server, port: await listenHere(server) };
}

describe("a direct connection", () => {
  it("carries both directions, each to its own end", async () => {
    const service = await listening((socket) => {
      let heard = "";
      socket.on("data", (chunk) => {
        heard += String(chunk);
      });
      socket.once("end", () => socket.end(heard.toUpperCase()));
    });
    const front = await listening((client) => {
      void connectDirectly("127.0.0.1", service.port).then((direct) => {
        assert.ok(direct);
        return joinDirectly(client, direct);
      });
    });
    const client = connect({ host: "127.0.0.1", port: front.port, allowHalfOpen: true });
    client.end("question");
    let answer = "";
    for await (const chunk of client) {
      answer += String(chunk);
    }
    assert.equal(answer, "QUESTION");
    service.server.close();
    front.server.close();
  });

  it("leaves what a peer does not read to the kernel, whichever sends each byte by itself", async (t) => {
    const service = await listening((socket) => {
      t.after(() => socket.destroy());
    });
    const joined = Promise.withResolvers<[Socket, Socket]>();
    const own = { enter: () => ({ [Symbol.dispose]() {} }) };
    const front = await listenTcp("127.0.0.1", 0, own, async (client) => {
      const direct = await connectDirectly("127.0.0.1", service.port);
      assert.ok(direct);
      joinDirectly(client, direct).catch(() => {});
      joined.resolve([client, direct]);
    });
    const peer = connect({ host: "127.0.0.1", port: front.port });
    t.after(() => {
      peer.destroy();
      front.close();
      service.server.close();
    });
    const both = await joined.promise;
    for (const socket of both) {
      // Neither side reads.
      Object.assign(socket, { _write: () => {}, _writev: () => {} });
    }
    for (const socket of both) {
      let taken = 0;
      while (taken < 1_000 && socket.push(Buffer.from("a"))) {
        taken += 1;
        await setImmediate();
      }
      assert.ok(taken < 10, `${taken} bytes`);
    }
  });

  it("is refused where nobody listens", async () => {
    const { server, port } = await listening(() => {});
    server.close();
    await once(server, "close");
    await assert.rejects(connectDirectly("127.0.0.1", port), { kind: "unavailable" });
  });
});
