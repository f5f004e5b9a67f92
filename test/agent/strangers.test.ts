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
import { unavailable } from "../../src/common/errors.ts";
import { newId } from "../../src/common/ids.ts";
import { junkChain } from "../support/junk-chain.ts";
import { until } from "../support/until.ts";
import { type Backend, callbackScene, firstStart } from "./callback-scene.ts";
import { type Siege, strangerKinds } from "./sieges.ts";
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
  const stall = async (backend: Backend, containerId: string, token?: string): Promise<WebSocket> => {
    const instance = backend.instance;
    const hostile = await HostileAgent.make(containerId);
    const url = `wss://127.0.0.1:${portOf(backend)}/agents/${instance}/${containerId}`;
    const socket = await hostile.call(url, instance, token);
    defer(() => socket.terminate());
    return socket;
  };
  const keysThatWait = async ({ relay }: Backend, containerId: string, count: number): Promise<void> => {
    const callers = relay.callersOf(containerId, AbortSignal.timeout(120_000));
    for (let known = 0; known < count; known++) {
      await callers.next();
    }
  };

  it("alone are asked for a proof, beside callers without a token, or with another start's or container's", async () => {
    const backend = await startBackend();
    const containerId = newId();
    const { callToken } = backend.sealer;
    const other = callToken(newId(), 1n);
    const tokens = [
      undefined,
      "",
      "1.guess",
      "1",
      callToken(containerId, 0n),
      callToken(containerId, 2n),
      other,
    ];
    await Promise.all(tokens.map((token) => stall(backend, containerId, token)));
    await keysThatWait(backend, containerId, tokens.length);
    const own = secretProof((id) => backend.sealer.callbackSecret(id, 1n));
    const asked: string[] = [];
    const { finder } = finderOf(backend, {
      async check(agent, ...check) {
        asked.push(Buffer.from(agent.pin).toString("hex"));
        await own.check(agent, ...check);
      },
    });
    const found = finder.await(containerId, firstStart, AbortSignal.timeout(60_000));
    const url = `https://127.0.0.1:${portOf(backend)}`;
    startAgent(backend, containerId, url, secretOf(backend, containerId));
    const { pin } = await found;
    assert.deepEqual(asked, [Buffer.from(pin).toString("hex")]);
  });

  it("whose keys are known are met without a token", async () => {
    const backend = await startBackend();
    const containerId = newId();
    const url = `https://127.0.0.1:${portOf(backend)}`;
    const callers = backend.relay.callersOf(containerId, AbortSignal.timeout(60_000));
    startAgent(backend, containerId, url, { SOCKERLESS_CALLBACK_TOKEN: "" });
    const { pin, start } = (await callers.next()).value ?? {};
    assert.equal(start, undefined);
    const known = { address: "", pin: new Uint8Array(Buffer.from(pin ?? "", "hex")) };
    assert.equal((await clientOf(backend, containerId, known).hello({})).containerId, containerId);
  });

  it("are asked one after the other where many show the start's own token", async () => {
    const backend = await startBackend();
    const containerId = newId();
    const token = backend.sealer.callToken(containerId, firstStart.launchGeneration);
    let [underWay, most] = [0, 0];
    const { finder } = finderOf(backend, {
      async check() {
        most = Math.max(most, ++underWay);
        await setTimeout(100);
        underWay--;
        throw unavailable("nobody knows");
      },
    });
    const over = new AbortController();
    const found = finder.await(containerId, firstStart, over.signal);
    await Promise.all(Array.from({ length: 20 }, () => stall(backend, containerId, token)));
    await setTimeout(1_500);
    over.abort(new Error("it is over"));
    await assert.rejects(found, /it is over/);
    assert.equal(most, 1);
  });

  for (const kind of strangerKinds) {
    it(`get through within 5 s beside ${siegeSize} that ${kind}, and call again`, async (t) => {
      const backend = await startBackend();
      const containerId = newId();
      const origin = `127.0.0.1:${portOf(backend)}`;
      const url = `wss://${origin}/agents/${backend.instance}/${containerId}`;
      const token = backend.sealer.callToken(containerId, firstStart.launchGeneration - 1n);
      const siege: Siege = { kind, url, instance: backend.instance, containerId, token, count: siegeSize };
      const found = finderOf(backend).finder.await(containerId, firstStart, AbortSignal.timeout(120_000));
      found.catch(() => {});
      const strangers = fork(new URL("./strangers-process.js", import.meta.url), [JSON.stringify(siege)]);
      defer(() => strangers.kill("SIGKILL"));
      await once(strangers, "message");
      const startedAt = performance.now();
      startAgent(backend, containerId, `https://${origin}`, secretOf(backend, containerId));
      const client = clientOf(backend, containerId, await found);
      assert.equal((await client.hello({})).containerId, containerId);
      const seconds = (performance.now() - startedAt) / 1000;
      const memory = (process.memoryUsage.rss() / 1024 ** 2).toFixed(0);
      t.diagnostic(`after ${seconds.toFixed(1)} s; the backend's process has ${memory} MiB`);
      assert.ok(seconds < 5, `${seconds} s`);
    });
  }

  for (const length of [4, 76]) {
    it(`get through beside keys with ${length} certificates that take long to verify, of which none is`, async () => {
      const backend = await startBackend();
      const containerId = newId();
      const chain = junkChain(length);
      const strangers = await Promise.all(
        Array.from({ length: 3 }, () =>
          stall(backend, containerId, backend.sealer.callToken(containerId, firstStart.launchGeneration)),
        ),
      );
      const ends = strangers.map(async (stranger) => {
        const secure = new TLSSocket(createWebSocketStream(stranger), { isServer: true, ...chain });
        secure.on("error", () => {});
        await once(stranger, "close");
      });
      const { finder, told } = finderOf(backend);
      const signal = AbortSignal.timeout(120_000);
      const found = finder.await(containerId, firstStart, signal);
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
