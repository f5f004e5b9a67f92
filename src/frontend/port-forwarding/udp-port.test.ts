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

  it("has the kernel take more answers than it keeps for a client that is gone", async (t) => {
    const usual = createSocket("udp4");
    t.after(() => usual.close());
    usual.bind(0, "127.0.0.1");
    await once(usual, "listening");
    const listening = t.mock.method(Socket.prototype, "setSendBufferSize");
    const port = await listenUdp("127.0.0.1", 0, new SharedRoom(1).share(), () => assert.fail());
    t.after(() => port.close());
    const socket = listening.mock.calls[0]?.this as Socket | undefined;
    assert.ok((socket?.getSendBufferSize() ?? 0) > usual.getSendBufferSize());
  });

  it("ends the flow that has been silent for longest, where there is no room for another", async (t) => {
    let now = 0;
    t.mock.method(performance, "now", () => now);
    const flows: { sent: string[]; isClosed: boolean }[] = [];
    const port = await listenUdp("127.0.0.1", 0, new SharedRoom(2).share(), (answer, ended) => {
      const flow = { sent: [] as string[], isClosed: false };
      flows.push(flow);
      return {
        send: (datagram) => {
          flow.sent.push(Buffer.from(datagram).toString());
          answer(Buffer.from("heard"));
        },
        close: () => {
          flow.isClosed = true;
          setImmediate(ended); // A tunnel ends later.
        },
      };
    });
    t.after(() => port.close());
    const newClient = (): Socket => {
      const client = createSocket("udp4");
      t.after(() => client.close());
      return client;
    };
    const [first, second, third] = [newClient(), newClient(), newClient()];
    const ask = async (client: Socket, question: string): Promise<void> => {
      client.send(question, port.port, "127.0.0.1");
      await once(client, "message", { signal: AbortSignal.timeout(10_000) });
    };
    await ask(first, "1");
    await ask(second, "2");
    now = 500;
    third.send("dropped", port.port, "127.0.0.1");
    await ask(first, "3");
    now = 1_000;
    await ask(third, "4");
    assert.deepEqual(flows, [
      { sent: ["1", "3"], isClosed: false },
      { sent: ["2"], isClosed: true },
      { sent: ["4"], isClosed: false },
    ]);
    now = 2_000;
    await ask(third, "5");
    await ask(second, "6");
    assert.deepEqual(
      flows.map(({ sent, isClosed }) => `${sent.join(" ")}${isClosed ? ", closed" : ""}`),
      ["1 3, closed", "2, closed", "4 5", "6"],
    );
  });
});
