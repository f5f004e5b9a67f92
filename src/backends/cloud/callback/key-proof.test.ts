import assert from "node:assert/strict";
import { once } from "node:events";
import type { AddressInfo, Socket } from "node:net";
import { describe, it } from "node:test";

import { WebSocket, WebSocketServer } from "ws";

import { learnKey } from "./key-proof.ts";

describe("an agent's answer", () => {
  it("is told of before the message that comes in one packet with it", async (context) => {
    const server = new WebSocketServer({ port: 0, host: "127.0.0.1" });
    await once(server, "listening");
    const connected = once(server, "connection") as Promise<[WebSocket]>;
    const agent = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`);
    context.after(() => {
      agent.terminate();
      server.close();
    });
    agent.once("upgrade", ({ socket }) => {
      agent.once("message", () => {
        (socket as Socket).cork();
        agent.send("no proof");
        agent.send("behind it");
        (socket as Socket).uncork();
      });
    });
    const [socket] = await connected;
    const messages: string[] = [];
    const learned = learnKey(socket, "0".repeat(16), "c".repeat(64), () => {
      socket.on("message", (data) => messages.push(String(data)));
    });
    await assert.rejects(learned);
    assert.deepEqual(messages, ["behind it"]);
  });
});
