import assert from "node:assert/strict";
import { createSocket, Socket } from "node:dgram";
import { once } from "node:events";
import { readdir } from "node:fs/promises";
import { describe, it } from "node:test";

import { SharedRoom } from "../shared-room.ts";
import { listenUdp } from "./udp-port.ts";

describe("a published UDP port", () => {
  it("keeps no descriptor of an address where it cannot be", async () => {
    const before = await readdir("/proc/self/fd");
    for (let tried = 0; tried < 20; tried++) {
      const bound = listenUdp("203.0.113.1", 0, new SharedRoom(1).share(), () => assert.fail());
      await assert.rejects(bound, { code: "EADDRNOTAVAIL" });
    }
    const after = await readdir("/proc/self/fd");
    assert.ok(after.length < before.length + 10, `${before.length} descriptors, then ${after.length}`);
  });

  it("drops answers that a slow link would keep waiting", async (t) => {
    let unsent = 0;
    t.mock.method(Socket.prototype, "getSendQueueSize", () => unsent);
    const send = t.mock.method(Socket.prototype, "send");
    let answer = (_datagram: Uint8Array): void => assert.fail();
    const opened = Promise.withResolvers<void>();
    const port = await listenUdp("127.0.0.1", 0, new SharedRoom(1).share(), (answers, ended) => {
      answer = answers;
      opened.resolve();
      return { send: () => {}, close: ended };
    });
    t.after(() => port.close());
    const client = createSocket("udp4");
    t.after(() => client.close());
    client.send("question", port.port, "127.0.0.1");
    await opened.promise;
    send.mock.resetCalls();
    unsent = 1024 * 1024;
    answer(Buffer.from("dropped"));
    assert.equal(send.mock.callCount(), 0);
    unsent = 0;
    answer(Buffer.from("sent"));
    const [received] = (await once(client, "message")) as [Buffer];
    assert.equal(received.toString(), "sent");
  });
});
