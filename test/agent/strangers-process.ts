/** Strangers in a process of their own: each calls a relay, takes what it can, and calls again once it was left. */
import "reflect-metadata";

import { once } from "node:events";

import { WebSocket } from "ws";

import { Limiter } from "../../src/backends/concurrency/limiter.ts";
import { HostileAgent } from "./hostile-agent.ts";

/** Way in which strangers take what they can. */
export type StrangerKind = "show keys and say nothing" | "send messages in frames of one byte";

/** Argument of this process, as JSON. It answers "there" once each has called. */
export interface Siege {
  readonly kind: StrangerKind;
  readonly url: string;
  /** The backend's instance, and a container: whoever is on its network knows both. */
  readonly instance: string;
  readonly containerId: string;
  readonly count: number;
}

/** Frames of one message, just fewer than those that are refused. */
const frames = 255;

const { kind, url, instance, containerId, count } = JSON.parse(process.argv[2] ?? "") as Siege;

const ways: Readonly<Record<StrangerKind, () => Promise<WebSocket>>> = {
  "show keys and say nothing": async () => await (await HostileAgent.make(containerId)).call(url, instance),
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
    if (socket.readyState !== socket.CLOSED) {
      await once(socket, "close");
    }
  }
}

process.on("disconnect", () => process.exit());
for (let begun = 0; begun < count; begun++) {
  void besiege();
}
