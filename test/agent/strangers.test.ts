/** Agents that call beside callers that nobody knows, who take what they can. */
import "reflect-metadata";

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { fork, spawn } from "node:child_process";
import { once } from "node:events";
import { connect as connectTcp } from "node:net";
import { describe, it } from "node:test";
import { setTimeout } from "node:timers/promises";
import { connect, TLSSocket } from "node:tls";

import { createWebSocketStream, WebSocket } from "ws";

import { secretProof } from "../../src/backends/cloud/agents/agent-proof.ts";
import { newId } from "../../src/common/ids.ts";
import { junkChain } from "../support/junk-chain.ts";
import { until } from "../support/until.ts";
import { type Backend, callbackScene } from "./callback-scene.ts";
import type { Siege } from "./strangers-process.ts";
import { HostileAgent } from "./hostile-agent.ts";
import { isSoak } from "../support/soak.ts";

/** Strangers of a kind at a time: more with SOCKERLESS_SOAK=1 (`npm run soak`). */
const siegeSize = isSoak ? 2000 : 100;

describe("agents that call, beside strangers,", () => {
  const { startBackend, portOf, startAgent, secretOf, finderOf, meet, clientOf, defer } = callbackScene();

  it("get through beside a flood of connections, which is bounded and logged", async () => {
    const backend = await startBackend();
    const flood = Array.from({ length: 400 }, () => {
      const socket = connectTcp({ host: "127.0.0.1", port: portOf(backend) });
      socket.on("error", () => {});
      return socket;
    });
    defer(() => {
      for (const socket of flood) {
        socket.destroy();
      }
    });
    await until(() =>
      backend.warnings().find((line) => line.includes("connections have not finished their handshakes yet")),
    );
    for (const socket of flood) {
      // Not before all are there: each may take 15 s, and a handshake is slow on a busy machine.
      connect({ socket, rejectUnauthorized: false }).on("error", () => {});
    }
    const containerId = newId();
    const url = `https://127.0.0.1:${portOf(backend)}`;
    startAgent(backend, containerId, url, secretOf(backend, containerId));
    await meet(backend, containerId);
    assert.ok(backend.warnings().length < 30, String(backend.warnings().length));
  });

  /** A caller with a key of its own, which shows it and says nothing more. */
  const stall = async (backend: Backend, containerId: string): Promise<WebSocket> => {
    const instance = backend.instance;
    const hostile = await HostileAgent.make(containerId);
    const url = `wss://127.0.0.1:${portOf(backend)}/agents/${instance}/${containerId}`;
    const socket = await hostile.call(url, instance);
    defer(() => socket.terminate());
    return socket;
  };
  const keysThatWait = async ({ relay }: Backend, containerId: string, count: number): Promise<void> => {
    const callers = relay.callersOf(containerId, AbortSignal.timeout(120_000));
    for (let known = 0; known < count; known++) {
      await callers.next();
    }
  };

  it("get through beside keys that nobody proves, however many they are, which are bounded and logged", async () => {
    const backend = await startBackend();
    const containerId = newId();
    const strangers = 150;
    for (let known = 0; known < strangers; known += 10) {
      await Promise.all(Array.from({ length: 10 }, () => stall(backend, containerId)));
    }
    await keysThatWait(backend, containerId, strangers);
    const url = `https://127.0.0.1:${portOf(backend)}`;
    startAgent(backend, containerId, url, secretOf(backend, containerId));
    await keysThatWait(backend, containerId, strangers + 1);
    const own = secretProof((id) => backend.sealer.callbackSecret(id, 1n));
    let asked = 0;
    let askedBefore = 0;
    const { finder, told } = finderOf(backend, {
      async check(...check) {
        asked++;
        await own.check(...check);
        askedBefore = asked; // It is the agent.
        await until(() => told().find((line) => line.includes("has not proven itself")));
      },
    });
    const signal = AbortSignal.timeout(120_000);
    const client = clientOf(
      backend,
      containerId,
      await finder.await(containerId, { task: "task", address: "" }, signal),
    );
    assert.equal((await client.hello({})).containerId, containerId);
    assert.ok(askedBefore < strangers / 2, `${askedBefore} began a handshake before the agent was asked`);
    const lines = told().filter((line) => line.includes("has not proven itself"));
    assert.ok(lines.length <= 10, String(lines.length));
  });

  for (const kind of ["show keys and say nothing", "send messages in frames of one byte"] as const) {
    it(`get through beside ${siegeSize} that ${kind}, and call again`, async (t) => {
      const backend = await startBackend();
      const containerId = newId();
      const origin = `127.0.0.1:${portOf(backend)}`;
      const url = `wss://${origin}/agents/${backend.instance}/${containerId}`;
      const siege: Siege = { kind, url, instance: backend.instance, containerId, count: siegeSize };
      const found = finderOf(backend).finder.await(
        containerId,
        { task: "task", address: "" },
        AbortSignal.timeout(120_000),
      );
      found.catch(() => {});
      const strangers = fork(new URL("./strangers-process.js", import.meta.url), [JSON.stringify(siege)]);
      defer(() => strangers.kill("SIGKILL"));
      await once(strangers, "message");
      const startedAt = performance.now();
      startAgent(backend, containerId, `https://${origin}`, secretOf(backend, containerId));
      const client = clientOf(backend, containerId, await found);
      assert.equal((await client.hello({})).containerId, containerId);
      const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
      const memory = (process.memoryUsage.rss() / 1024 ** 2).toFixed(0);
      t.diagnostic(`after ${seconds} s; the backend's process has ${memory} MiB`);
    });
  }

  for (const length of [4, 76]) {
    it(`get through beside keys with ${length} certificates that take long to verify, of which none is`, async () => {
      const backend = await startBackend();
      const containerId = newId();
      const chain = junkChain(length);
      const strangers = await Promise.all(Array.from({ length: 3 }, () => stall(backend, containerId)));
      const ends = strangers.map(async (stranger) => {
        const secure = new TLSSocket(createWebSocketStream(stranger), { isServer: true, ...chain });
        secure.on("error", () => {});
        await once(stranger, "close");
      });
      const { finder, told } = finderOf(backend);
      const signal = AbortSignal.timeout(120_000);
      const found = finder.await(containerId, { task: "task", address: "" }, signal);
      await Promise.all(ends);
      startAgent(
        backend,
        containerId,
        `https://127.0.0.1:${portOf(backend)}`,
        secretOf(backend, containerId),
      );
      assert.equal((await clientOf(backend, containerId, await found).hello({})).containerId, containerId);
      const failures = told().filter((line) => line.includes("has not proven itself"));
      assert.equal(failures.length, 3);
      assert.ok(!failures.some((line) => line.includes("another key")), `verified: ${failures.join("\n")}`);
    });
  }

  it("are left where they say much before anybody has asked them", async () => {
    const backend = await startBackend();
    const containerId = newId();
    const quiet = await stall(backend, containerId);
    const socket = await stall(backend, containerId);
    await keysThatWait(backend, containerId, 2);
    for (let sent = 0; sent < 100; sent++) {
      socket.send(Buffer.alloc(1));
    }
    await once(socket, "close");
    assert.equal(quiet.readyState, WebSocket.OPEN, "who is only silent waits longer");
  });

  /** A caller without a key that writes frames by itself, and reads when it is told to. */
  const speakRaw = async (backend: Backend) => {
    const instance = backend.instance;
    const socket = connect({ host: "127.0.0.1", port: portOf(backend), rejectUnauthorized: false });
    defer(() => void socket.destroy());
    socket.on("error", () => {});
    socket.setNoDelay(true);
    socket.write(
      `GET /agents/${instance}/${newId()} HTTP/1.1\r\nhost: backend\r\nconnection: upgrade\r\nupgrade: websocket\r\n` +
        `sec-websocket-version: 13\r\nsec-websocket-key: ${randomBytes(16).toString("base64")}\r\n` +
        "sec-websocket-protocol: sockerless.agent.v1\r\n\r\n",
    );
    await once(socket, "data");
    return socket;
  };
  /** A frame's head, with a mask of zeros: flag and opcode, and a length below 126 or of 16 bits. */
  const headOf = (first: number, length: number): Buffer => {
    const lengths = length < 126 ? [0x80 + length] : [0xfe, length >> 8, length & 255];
    return Buffer.from([first, ...lengths, 0, 0, 0, 0]);
  };

  for (const [name, first, rest] of [
    ["a message in frames of one byte", headOf(0x02, 0), Buffer.concat([headOf(0x00, 1), Buffer.alloc(1)])],
    ["a frame byte by byte", headOf(0x82, 60_000), Buffer.alloc(1)],
  ] as const) {
    it(`are left where they send ${name}`, async () => {
      const backend = await startBackend();
      const socket = await speakRaw(backend);
      const heard: Buffer[] = [];
      socket.on("data", (chunk: Buffer) => heard.push(chunk));
      socket.on("error", () => {}); // It may be written to after its end.
      const closed = new Promise((resolve) => socket.once("close", resolve));
      socket.write(first);
      // Those that arrive together count once.
      for (let sent = 0; sent < 5_000 && !socket.destroyed; sent++) {
        socket.write(rest);
        await setTimeout(1);
      }
      await closed;
      assert.ok(
        Buffer.concat(heard).includes(Buffer.from([0x88, 2, 1008 >> 8, 1008 & 255])),
        "policy violation",
      );
    });
  }

  for (const [name, opcode] of [
    ["ping", 0x89],
    ["pong", 0x8a],
  ] as const) {
    it(`are left where they ${name} without end`, { timeout: 10_000 }, async () => {
      const backend = await startBackend();
      const socket = await speakRaw(backend);
      const isOver = new Promise((resolve) => {
        socket.once("close", resolve);
      });
      const many = Buffer.concat(Array.from({ length: 20 }, () => headOf(opcode, 0)));
      socket.resume().write(many);
      await setTimeout(100);
      assert.ok(!socket.destroyed, "some are taken");
      socket.write(many);
      await isOver;
    });
  }

  it("are left where they change their TLS keys without end", { timeout: 10_000 }, async () => {
    const backend = await startBackend();
    const stranger = spawn("openssl", ["s_client", "-connect", `127.0.0.1:${portOf(backend)}`, "-tls1_3"], {
      stdio: ["pipe", "pipe", "ignore"],
    });
    defer(() => stranger.kill("SIGKILL"));
    stranger.stdin.on("error", () => {});
    stranger.stdout.resume();
    const left = once(stranger, "exit");
    // A command of openssl's, of which it takes one a read.
    const updates = setInterval(() => stranger.stdin.write("k\n"), 20);
    defer(() => clearInterval(updates));
    await left;
  });

  it("show their keys in few bytes", async () => {
    const backend = await startBackend();
    const instance = backend.instance;
    const url = `wss://127.0.0.1:${portOf(backend)}/agents/${instance}/${newId()}`;
    const caller = new WebSocket(url, "sockerless.agent.v1", { rejectUnauthorized: false });
    caller.once("message", () => caller.send(JSON.stringify({ certificate: "A".repeat(10_000) })));
    await once(caller, "close");
    await until(() => backend.warnings().find((line) => line.includes("are enough to show a key")));
  });
});
