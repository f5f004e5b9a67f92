/** Strangers in a process of their own: each calls a relay, takes what it can, and calls again once it was left. */
import "reflect-metadata";

import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { connect, type TLSSocket } from "node:tls";

import { WebSocket } from "ws";

import { Limiter } from "../../src/backends/concurrency/limiter.ts";
import { HostileAgent } from "./hostile-agent.ts";
import type { Siege, StrangerKind } from "./sieges.ts";

/** Frames of one message, just fewer than those that are refused. */
const frames = 255;

const { kind, url, instance, containerId, token, count } = JSON.parse(process.argv[2] ?? "") as Siege;

/** Fresh keys are shown this often, by all together. */
const freshMs = 5;

const show = async (shown?: string): Promise<WebSocket> =>
  await (await HostileAgent.make(containerId)).call(url, instance, shown);
/** Connects, and says something in one write. */
const say = async (text: string): Promise<TLSSocket> => {
  const { hostname: host, port } = new URL(url);
  const socket = connect({ host, port: Number(port), rejectUnauthorized: false });
  socket.on("error", () => {}).resume();
  await once(socket, "secureConnect");
  socket.write(text);
  return socket;
};
const ways: Readonly<Record<StrangerKind, () => Promise<WebSocket | TLSSocket>>> = {
  "show keys and say nothing": () => show(),
  "show fresh keys all the time": () => show(),
  "show fresh keys with an earlier start's token all the time": () => show(token),
  "send messages in frames of one byte": async () => {
    const socket = new WebSocket(url, "sockerless.agent.v1", { rejectUnauthorized: false });
    socket.on("error", () => {});
    await once(socket, "open");
    for (let sent = 0; sent < frames; sent++) {
      socket.send(Buffer.alloc(1), { fin: false });
    }
    return socket;
  },
  "send thousands of requests at once": () => say("GET / HTTP/1.1\r\nhost:\r\n\r\n".repeat(2_000)),
  "send thousands of messages at once": async () => {
    const socket = await say(
      `GET ${new URL(url).pathname} HTTP/1.1\r\nhost: backend\r\nconnection: upgrade\r\nupgrade: websocket\r\n` +
        `sec-websocket-version: 13\r\nsec-websocket-key: ${randomBytes(16).toString("base64")}\r\n` +
        "sec-websocket-protocol: sockerless.agent.v1\r\n\r\n",
    );
    await once(socket, "data");
    socket.write(Buffer.from([0x82, 0x80, 0, 0, 0, 0]).toString("latin1").repeat(10_000), "latin1");
    return socket;
  },
};

/** So many call at a time: more would push one another out before any has shown its key, which some do not mean to. */
const turns = new Limiter(kind.endsWith("at once") ? 256 : 20);

async function call(): Promise<WebSocket | TLSSocket> {
  using _turn = await turns.acquire("", new AbortController().signal, () => {});
  return await ways[kind]();
}

const isFresh = kind.includes("fresh keys");
let there = 0;
async function besiege(): Promise<never> {
  for (let calls = 0; ; ) {
    const socket = await call().catch(() => undefined);
    if (socket === undefined) {
      continue; // It was left while it called.
    }
    if (calls++ === 0 && ++there === count) {
      process.send?.("there");
    }
    if (isFresh) {
      await delay(count * freshMs); // The backend lets go of the connection, in favour of later ones.
    } else if (!(socket instanceof WebSocket ? socket.readyState === socket.CLOSED : socket.closed)) {
      await new Promise((resolve) => socket.once("close", resolve)); // By an error, too.
    }
  }
}

process.on("disconnect", () => process.exit());
const most = kind.endsWith("at once") ? Math.max(count, 240) : count;
for (let begun = 0; begun < most; begun++) {
  void besiege();
}
