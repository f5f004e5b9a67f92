/** Strangers in a process of their own: each calls a relay, takes what it can, and calls again once it was left. */
import "reflect-metadata";

import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";

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
const ways: Readonly<Record<StrangerKind, () => Promise<WebSocket>>> = {
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
};

/** So many call at a time: more would push one another out before any has shown its key. */
const turns = new Limiter(20);

async function call(): Promise<WebSocket> {
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
    } else if (socket.readyState !== socket.CLOSED) {
      await once(socket, "close");
    }
  }
}

process.on("disconnect", () => process.exit());
for (let begun = 0; begun < count; begun++) {
  void besiege();
}
