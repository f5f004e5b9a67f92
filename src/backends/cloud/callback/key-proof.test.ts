import assert from "node:assert/strict";
import { createHmac, sign, X509Certificate } from "node:crypto";
import { EventEmitter, once } from "node:events";
import { readFile } from "node:fs/promises";
import type { AddressInfo, Socket } from "node:net";
import { join } from "node:path";
import { before, describe, it } from "node:test";

import { WebSocket, WebSocketServer } from "ws";

import { readAuthority } from "../authority/authority-file.ts";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import { createSealer } from "../authority/seal.ts";
import { learnKey } from "./key-proof.ts";

const [instance, containerId] = ["0".repeat(16), "c".repeat(64)];
const { callKey, callToken } = createSealer(Buffer.from("one"));

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
    const learned = learnKey(socket, { instance, callKey }, containerId, () => {
      socket.on("message", (data) => messages.push(String(data)));
    });
    await assert.rejects(learned);
    assert.deepEqual(messages, ["behind it"]);
  });
});

describe("the start whose token an agent shows", () => {
  /** Its certificate, and a connection that answers. */
  const agentOf = (made: (signed: Buffer, certificate: Buffer) => object | undefined) => {
    const socket = Object.assign(new EventEmitter(), {
      send(nonce: Buffer) {
        const signed = Buffer.from(`sockerless callback ${instance} ${containerId} ${nonce.toString("hex")}`);
        const { raw } = new X509Certificate(pem);
        const shown = {
          certificate: raw.toString("base64"),
          signature: sign("sha256", signed, pem).toString("base64"),
          token: made(signed, raw),
        };
        socket.emit("message", Buffer.from(JSON.stringify(shown)));
      },
    });
    return socket as unknown as WebSocket;
  };
  const madeOf = (token: string, signed: Buffer, certificate: Buffer) => {
    const [start = "", secret = ""] = token.split(".");
    const mac = createHmac("sha256", secret).update(signed).update(certificate).digest("base64");
    return { start, mac };
  };
  const startShown = async (made: Parameters<typeof agentOf>[0]): Promise<bigint | undefined> =>
    (await learnKey(agentOf(made), { instance, callKey }, containerId)).start;
  const directory = scratchDirectory();
  let pem: Buffer;
  before(async () => {
    const file = join(directory, "agent.pem");
    await readAuthority(file);
    pem = await readFile(file);
  });

  it("is the token's own", async () => {
    for (const generation of [0n, 7n]) {
      const token = callToken(containerId, generation);
      assert.equal(await startShown((...said) => madeOf(token, ...said)), generation);
    }
  });

  it("is none without a token, or with one that is guessed, another container's or instance's", async () => {
    const tokens = [
      "7.guess",
      "7.",
      `8.${callToken(containerId, 7n).slice(2)}`,
      `x.${callToken(containerId, 7n).slice(2)}`,
      callToken("d".repeat(64), 7n),
      createSealer(Buffer.from("other")).callToken(containerId, 7n),
    ];
    assert.equal(await startShown(() => undefined), undefined);
    for (const token of tokens) {
      assert.equal(await startShown((...said) => madeOf(token, ...said)), undefined, token);
    }
  });

  it("is none where what was made of it is another connection's, another key's, or cut", async () => {
    const token = callToken(containerId, 7n);
    let heard: object | undefined;
    await startShown((...said) => (heard = madeOf(token, ...said)));
    assert.equal(await startShown(() => heard), undefined, "replayed");
    assert.equal(await startShown((signed) => madeOf(token, signed, Buffer.from("other"))), undefined);
    const cut = (mac: string): string => Buffer.from(mac, "base64").subarray(0, 31).toString("base64");
    const shortened = await startShown((...said) => {
      const { start, mac } = madeOf(token, ...said);
      return { start, mac: cut(mac) };
    });
    assert.equal(shortened, undefined);
  });
});
