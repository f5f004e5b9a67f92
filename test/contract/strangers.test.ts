/** Strangers at each TCP listener of an API: who has shown no certificate, or no key, takes nothing away from others. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdir, readFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { duplexPair } from "node:stream";
import { after, before, describe, it } from "node:test";
import { connect as connectTls } from "node:tls";

import { Relay } from "../../src/backends/cloud/callback/relay.ts";
import { capturedLogger } from "../../src/backends/cloud/testing/captured-logger.ts";
import { serveBackend } from "../../src/backends/server/server.ts";
import { loadConfig, type TlsFiles } from "../../src/common/config/load.ts";
import { maxStrangers } from "../../src/common/strangers.ts";
import { startFrontend } from "../../src/frontend/main.ts";
import { makeCertificates, type TestCertificates } from "../support/certificates.ts";
import { openConnections } from "../support/open-connections.ts";
import { untilTrue } from "../support/until.ts";
import { scratchDirectory } from "../support/scratch.ts";

/** The beginning of a record of TLS with a ClientHello. */
const helloStart = Buffer.from([0x16, 3, 1, 2, 0, 1, 0]);
const plainHttp = "GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n";

/** More than may be there, and few enough to be quick. */
const floodSize = maxStrangers + 100;

interface Listener {
  readonly port: number;
  readonly close: () => unknown;
}

const listeners: Readonly<
  Record<string, (directory: string, certificates: TestCertificates) => Promise<Listener>>
> = {
  "the Docker API": async (directory, { server: { ca, cert, key } }) => {
    const flags = {
      hosts: ["tcp://127.0.0.1:0"],
      backend_address: `unix://${join(directory, "backend.sock")}`,
      log_level: "silent",
      tlscacert: ca,
      tlscert: cert,
      tlskey: key,
    };
    const { config } = loadConfig({ command: "frontend", environment: {}, uid: 0, flags });
    const frontend = await startFrontend(config);
    return { port: portOf(frontend.addresses?.[0]), close: () => frontend.close() };
  },
  "a backend": async (directory, { server }) => {
    const backend = await serveBackend({
      address: "tcp://127.0.0.1:0",
      tls: server,
      runDir: directory,
      logger: capturedLogger().logger,
      register: () => {},
      resolveAgent: async () => undefined,
    });
    return { port: portOf(backend.address), close: () => backend.close() };
  },
  "agents that call": async (directory) => {
    const relay = await Relay.start({
      listen: "tcp://127.0.0.1:0",
      path: join(directory, "relay.sock"),
      instance: "0".repeat(16),
      callKey: new Uint8Array(32),
      logger: capturedLogger().logger,
    });
    return { port: portOf(relay.address), close: () => relay.close() };
  },
};

for (const [name, start] of Object.entries(listeners)) {
  describe(`the TCP listener of ${name}`, () => {
    const directory = scratchDirectory();
    let certificates: TestCertificates;
    let listener: Listener;
    const flood: Socket[] = [];

    before(async () => {
      certificates = await makeCertificates(directory);
      listener = await start(directory, certificates);
    });
    after(() => listener.close());

    const isGone = (socket: Socket): boolean => socket.readableEnded || socket.errored !== null;
    /** Connects strangers, who never leave by themselves, and waits until so many were turned away. */
    const connectAll = async (say: (socket: Socket) => unknown, turnedAway: number): Promise<void> => {
      for (let n = 0; n < floodSize; n++) {
        const socket = connect({ port: listener.port, host: "127.0.0.1", allowHalfOpen: true });
        socket.on("error", () => {});
        socket.on("connect", () => say(socket));
        flood.push(socket.resume());
      }
      await untilTrue(() => flood.filter(isGone).length >= turnedAway);
    };
    const leaveAll = async (): Promise<void> => {
      for (const socket of flood.splice(0)) {
        socket.destroy();
      }
      await untilTrue(async () => (await openConnections(listener.port)) === 0);
    };

    it("keeps nothing of those who begin a handshake and say that they send no more", async () => {
      await connectAll((socket) => socket.end(helloStart), floodSize);
      await untilTrue(async () => (await openConnections(listener.port)) === 0);
      await leaveAll();
    });

    for (const [what, say, turnedAway] of [
      ["say nothing", () => {}, floodSize - maxStrangers],
      ["say half a hello", (socket: Socket) => socket.write(helloStart), floodSize - maxStrangers],
      ["speak plain HTTP", (socket: Socket) => socket.write(plainHttp), floodSize],
    ] as const) {
      it(`has ${maxStrangers} at most of those who ${what} and stay`, async () => {
        await connectAll(say, turnedAway);
        assert.equal(flood.filter(isGone).length, turnedAway); // All of them go when their time is over.
        await untilTrue(async () => (await openConnections(listener.port)) <= maxStrangers);
        await leaveAll();
      });
    }

    it("cuts those with a wrong certificate or none at once", async (t) => {
      if (name === "agents that call") {
        t.skip("it demands no certificate");
        return;
      }
      await mkdir(join(directory, "strange"));
      const strange = await makeCertificates(join(directory, "strange"));
      const silent = connect({ port: listener.port, host: "127.0.0.1" });
      await untilTrue(async () => (await openConnections(listener.port)) === 1);
      for (const tls of [{}, await pemOf(strange.client)]) {
        const stranger = connect({ port: listener.port, host: "127.0.0.1", allowHalfOpen: true });
        const cut = once(
          stranger.on("error", () => {}),
          "end",
        );
        const [client, wire] = duplexPair();
        stranger.pipe(wire).pipe(stranger, { end: false });
        connectTls({ socket: client, rejectUnauthorized: false, ...tls }).on("error", () => {});
        await cut;
        await untilTrue(async () => (await openConnections(listener.port)) <= 1);
        // The silent one is still there: it came first, and is cut after its time only.
        assert.equal(await openConnections(listener.port), 1);
        stranger.destroy();
      }
      silent.destroy();
    });
  });
}

function portOf(address: string | undefined): number {
  return Number(new URL(address ?? "").port);
}

async function pemOf({ ca, cert, key }: TlsFiles) {
  return { ca: await readFile(ca), cert: await readFile(cert), key: await readFile(key) };
}
