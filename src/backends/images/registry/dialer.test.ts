import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer as createWebServer, type ServerOptions } from "node:https";
import { createServer, type Socket } from "node:net";
import { describe, it, type TestContext } from "node:test";
import { Worker } from "node:worker_threads";

import { makeCertificates } from "../../../../test/support/certificates.ts";
import { junkChain } from "../../../../test/support/junk-chain.ts";
import { listenDuring, listenHere } from "../../../../test/support/listen-here.ts";
import { childrenOf, commandLineOf, Life } from "../../../../test/support/processes.ts";
import { until, untilTrue } from "../../../../test/support/until.ts";
import { Dialer } from "./dialer.ts";
import { HttpClient } from "./http-client.ts";
import { scratchDirectory } from "../../../../test/support/scratch.ts";

const { signal } = new AbortController();

/** A dialer, a client that dials by it, and a look at its processes, which others of this process may have too. */
function opened(t: TestContext) {
  const earlier = new Set(childrenOf(process.pid));
  const lives = (): Life[] =>
    childrenOf(process.pid)
      .filter((pid) => !earlier.has(pid) && commandLineOf(pid).endsWith(" tls-dialer"))
      .map((pid) => new Life(pid));
  const dialer = new Dialer();
  const options = { insecure: true, proxied: false, userAgent: "test", silenceMs: 60_000, dialer };
  const client = new HttpClient(options);
  t.after(() => {
    client.close();
    dialer.close();
  });
  return { dialer, client, lives };
}

/** A web server that sends half of each answer, and the rest when it is told to. */
async function halting(t: TestContext, options: ServerOptions = {}) {
  const directory = scratchDirectory();
  const { server: files } = await makeCertificates(directory);
  const pem = { cert: await readFile(files.cert), key: await readFile(files.key) };
  const goOn = Promise.withResolvers<void>();
  const server = createWebServer({ ...pem, ...options }, (_request, response) => {
    response.writeHead(200, { "content-length": 20 }).write("x".repeat(10));
    void goOn.promise.then(() => response.end("y".repeat(10)));
  });
  const port = await listenDuring(t, server);
  const url = new URL(`https://127.0.0.1:${port}/`);
  return { url, goOn: goOn.resolve };
}

/** A server that says nothing. */
async function silence(t: TestContext) {
  const met: Socket[] = [];
  const server = createServer((socket) => met.push(socket.on("error", () => {}).resume()));
  const port = await listenHere(server);
  t.after(() => {
    for (const each of met) {
      each.destroy();
    }
    server.close();
  });
  return { met, target: { host: "127.0.0.1", port } };
}

const junkServer = `
const { createServer } = require("node:tls");
const { parentPort, workerData } = require("node:worker_threads");
const server = createServer(workerData, (socket) => socket.end()).on("tlsClientError", () => {});
server.listen(0, "127.0.0.1", () => parentPort.postMessage(server.address().port));
`;

describe("a dial", () => {
  it("to servers whose certificates cost much takes no time of this thread", async (t) => {
    const { dialer } = opened(t);
    const worker = new Worker(junkServer, { eval: true, workerData: junkChain() });
    t.after(() => worker.terminate());
    const [port] = (await once(worker, "message")) as [number];
    const target = { host: "127.0.0.1", port };
    const dials = (count: number) =>
      Promise.all(
        Array.from({ length: count }, async (_, n) => {
          await assert.rejects(dialer.dial({ ...target, tls: { insecure: n % 2 === 0 } }, signal), /tls: /);
        }),
      );
    await dials(1);
    const before = process.threadCpuUsage();
    await dials(32);
    const { user } = process.threadCpuUsage(before);
    assert.ok(user < 1_000_000, `${user} µs`); // OpenSSL in this thread: 13 s
  });

  it("that is given up leaves its server, however silent that is", async (t) => {
    const { dialer } = opened(t);
    const { met, target } = await silence(t);
    const leaving = new AbortController();
    const dialled = dialer.dial({ ...target, tls: { insecure: true } }, leaving.signal);
    const server = await until(() => met[0]);
    const left = once(server, "close");
    leaving.abort(new Error("no longer wanted"));
    await assert.rejects(dialled, /no longer wanted/);
    await left;
  });

  it("waits for the process that is started after a crash, and one under way then fails", async (t) => {
    const { dialer, lives } = opened(t);
    const { met, target } = await silence(t);
    const underWay = dialer.dial({ ...target, tls: { insecure: true } }, signal);
    await until(() => met[0]);
    const [life] = lives();
    const failed = assert.rejects(underWay, {
      code: "ECONNRESET",
      message: /^the TLS dialer has ended/,
    });
    assert.ok(life?.kill());
    await failed;
    const socket = await dialer.dial({ ...target, tls: undefined }, signal);
    socket.destroy();
  });
});

describe("a server that demands a certificate", () => {
  it("is quoted: in TLS 1.3 it refuses the client after the handshake", async (t) => {
    const { client } = opened(t);
    const { url } = await halting(t, { requestCert: true });
    await assert.rejects(
      client.send({ method: "GET", url, signal }),
      /^RegistryUnreachable: Get "https:.*": remote error: tls: certificate required$/,
    );
  });
});

describe("a dialer that is killed", () => {
  it("cuts what is read by TLS, which can then be asked for again", async (t) => {
    const { client, lives } = opened(t);
    const { url, goOn } = await halting(t);
    const answer = await client.send({ method: "GET", url, signal });
    const cut = assert.rejects(
      answer.bytes(100),
      /^RegistryUnreachable: Get .*: read: connection reset by peer$/,
    );
    const [life] = lives();
    assert.ok(life?.kill());
    await cut;
    goOn();
    const again = await client.send({ method: "GET", url, signal });
    assert.equal(String(await again.bytes(100)), "x".repeat(10) + "y".repeat(10));
  });

  it("is gone with the last use", async (t) => {
    const { dialer, lives } = opened(t);
    const { target } = await silence(t);
    (await dialer.dial({ ...target, tls: undefined }, signal)).destroy();
    const [life] = lives();
    assert.ok(life);
    dialer.close();
    await untilTrue(() => Promise.resolve(life.isOver));
  });
});
