import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readFile } from "node:fs/promises";
import { createServer as createHttpServer } from "node:http";
import { createSecureServer } from "node:http2";
import { createServer as createHttpsServer } from "node:https";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";

import { createClient } from "@connectrpc/connect";

import { expired, makeCertificates } from "../support/certificates.ts";
import { runCommand } from "../support/command.ts";
import { callApi } from "../support/call-api.ts";
import { listenHere } from "../support/listen-here.ts";
import { until } from "../support/until.ts";
import { type BackendServer, serveBackend } from "../../src/backends/server/server.ts";
import { type Clock, systemClock } from "../../src/common/clock.ts";
import type { TlsFiles } from "../../src/common/config/load.ts";
import { createLogger } from "../../src/common/logger.ts";
import { ManualClock } from "../../src/common/manual-clock.ts";
import { Health } from "../../src/gen/grpc/health/v1/health_pb.ts";
import { BackendPresence } from "../../src/frontend/backend/presence.ts";
import { createBackendTransport, readBackendReach } from "../../src/frontend/backend/transport.ts";
import { scratchDirectory } from "../support/scratch.ts";

const sockerless = fileURLToPath(new URL("../../../bin/sockerless", import.meta.url));
const logger = createLogger({ level: "silent", process: "test" });

interface Account {
  readonly directory: string;
  readonly ours: { readonly server: TlsFiles; readonly client: TlsFiles };
  readonly others: { readonly server: TlsFiles; readonly client: TlsFiles };
}

async function account(): Promise<Account> {
  const directory = scratchDirectory();
  const made = async (name: string) => {
    await mkdir(join(directory, name));
    return await makeCertificates(join(directory, name));
  };
  return { directory, ours: await made("ours"), others: await made("others") };
}

async function backendOn(t: TestContext, address: string, tls?: TlsFiles): Promise<BackendServer> {
  const runDir = scratchDirectory();
  const backend = await serveBackend({
    address,
    tls,
    runDir,
    register: () => {},
    resolveAgent: async () => undefined,
    logger,
  });
  t.after(() => backend.close());
  return backend;
}

/** @returns the port */
async function listening(t: TestContext, server: Server): Promise<number> {
  const port = await listenHere(server);
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => sockets.add(socket));
  t.after(() => {
    server.close();
    for (const socket of sockets) {
      socket.destroy();
    }
  });
  return port;
}

async function presenceOf(
  t: TestContext,
  address: string,
  tls?: TlsFiles,
  clock: Clock = systemClock,
): Promise<BackendPresence> {
  const reach = await readBackendReach(address, tls);
  const { transport, close } = createBackendTransport(reach);
  const presence = new BackendPresence({
    health: createClient(Health, transport),
    reach,
    clock,
    logger,
  });
  t.after(async () => {
    await presence.close();
    close();
  });
  presence.watch();
  return presence;
}

test("a backend that comes, goes and comes again is noticed", async (t) => {
  const { directory } = await account();
  const address = `unix://${join(directory, "backend.sock")}`;
  const presence = await presenceOf(t, address);
  assert.match((await presence.absence()) ?? "", /cannot connect to the sockerless backend at unix:.*ENOENT/);
  const first = await backendOn(t, address);
  await until(async () => ((await presence.absence()) === undefined ? true : undefined));
  await first.close();
  await until(async () => await presence.absence());
  await backendOn(t, address);
  await until(async () => ((await presence.absence()) === undefined ? true : undefined));
});

test("a refusal over TLS names the address and the file that is wrong", async (t) => {
  const { ours, others } = await account();
  const { address } = await backendOn(t, "tcp://127.0.0.1:0", ours.server);
  const https = address.replace("tcp:", "https:");
  const reason = async (tls: TlsFiles) => (await (await presenceOf(t, https, tls)).absence()) ?? "";

  assert.equal(await reason(ours.client), "");
  assert.match(
    await reason({ ...others.client, ca: ours.client.ca }),
    new RegExp(`backend at ${https} does not accept the certificate in ${others.client.cert}`),
  );
  assert.match(
    await reason({ ...ours.client, ca: others.client.ca }),
    new RegExp(`certificate of the backend at ${https} is not signed by an authority in ${others.client.ca}`),
  );
});

test("a backend whose certificate has expired is told as one", async (t) => {
  const { ours } = await account();
  const { cert, key } = await expired(ours.server);
  const port = await listening(
    t,
    createSecureServer({ cert: await readFile(cert), key: await readFile(key) }),
  );
  const presence = await presenceOf(t, `https://127.0.0.1:${port}`, ours.client);
  const reason = `the certificate of the backend at https://127.0.0.1:${port} is not valid now: certificate has expired`;
  assert.equal(await presence.absence(), reason);
});

test("what listens in a backend's place and is none is told as that, in one line", async (t) => {
  const { ours } = await account();
  const [cert, key] = await Promise.all([readFile(ours.server.cert), readFile(ours.server.key)]);
  const others = {
    "it does not speak TLS": createHttpServer((_, response) => response.end()),
    "it does not speak HTTP/2": createHttpsServer({ cert, key }, (_, response) => response.end()),
  };
  for (const [lack, server] of Object.entries(others)) {
    const address = `https://127.0.0.1:${await listening(t, server)}`;
    const presence = await presenceOf(t, address, ours.client);
    assert.equal(await presence.absence(), `what listens at ${address} is no sockerless backend: ${lack}`);
  }
});

test("nobody at the address, and somebody who says nothing, are told apart", async (t) => {
  const { ours } = await account();
  const nobody = await presenceOf(t, "https://127.0.0.1:1", ours.client);
  assert.equal(
    await nobody.absence(),
    "cannot connect to the sockerless backend at https://127.0.0.1:1: connect ECONNREFUSED 127.0.0.1:1",
  );
  await nobody.close();
  const connected = Promise.withResolvers<Socket>();
  const address = `https://127.0.0.1:${await listening(t, createServer(connected.resolve))}`;
  const clock = new ManualClock();
  const silent = await presenceOf(t, address, ours.client, clock);
  (await connected.promise).on("error", () => {});
  await clock.advance(10_000);
  assert.equal(await silent.absence(), `the backend at ${address} does not answer`);
});

test("a frontend says at its start why it has no backend, and a ping says the same", async (t) => {
  const { directory, ours, others } = await account();
  const { address } = await backendOn(t, "tcp://127.0.0.1:0", ours.server);
  const socket = join(directory, "docker.sock");
  const https = address.replace("tcp:", "https:");
  const args = ["frontend", "--host", `unix://${socket}`, "--backend-address", https];
  const { cert, key } = ours.client;
  const tls = ["--tlscacert", others.client.ca, "--tlscert", cert, "--tlskey", key];
  const frontend = spawn(sockerless, [...args, ...tls], { stdio: ["ignore", "ignore", "pipe"] });
  const ended = once(frontend, "exit");
  let log = "";
  frontend.stderr.on("data", (chunk: Buffer) => {
    log += chunk.toString();
  });
  await until(() => log.includes("the backend is not there") || undefined);
  const { status, text } = await callApi(socket, "GET", "/_ping");
  frontend.kill();
  await ended;
  const reason = `the certificate of the backend at ${https} is not signed by an authority in ${others.client.ca}: self-signed certificate in certificate chain`;
  assert.deepEqual([status, JSON.parse(text)], [503, { message: reason }]);
  assert.ok(log.includes(reason));
  assert.doesNotMatch(log, /\n\s+at |\\n/);
});

test("a frontend with files that cannot be used ends with one line that names the file", async () => {
  const { directory, ours } = await account();
  const wrong: readonly (readonly [Partial<TlsFiles>, string])[] = [
    [await expired(ours.client), "the certificate in .*client-expired.pem has expired"],
    [{ cert: join(directory, "none.pem") }, ".*none.pem: ENOENT: no such file"],
    [{ key: directory }, `${directory}: EISDIR`],
    [{ ca: ours.client.key }, `${ours.client.key} holds no certificate that can be read`],
    [{ key: ours.client.ca }, `${ours.client.ca} holds no private key that can be read`],
  ];
  for (const [files, line] of wrong) {
    const { ca, cert, key } = { ...ours.client, ...files };
    const tls = ["--tlscacert", ca, "--tlscert", cert, "--tlskey", key];
    const args = ["frontend", "--host", `unix://${join(directory, "x.sock")}`, ...tls];
    const { code, errorText } = await runCommand(sockerless, [
      ...args,
      "--backend-address",
      "https://127.0.0.1:1",
    ]);
    assert.equal(code, 1);
    assert.match(errorText, new RegExp(`^sockerless frontend: ${line}[^\n]*$`));
  }
  const { errorText } = await runCommand(sockerless, ["frontend", "--backend-address", "https://b:1"]);
  assert.equal(
    errorText,
    "sockerless frontend: https://b:1: TCP demands mutual TLS: set tlscacert, tlscert and tlskey",
  );
});

test("a certificate that cannot be used is refused before anything is dialled", async () => {
  const { directory, ours, others } = await account();
  await mkdir(join(directory, "servers"));
  const serving = await makeCertificates(join(directory, "servers"), "serverAuth");
  await assert.rejects(readBackendReach("https://127.0.0.1:1", serving.client), {
    kind: "invalid",
    message: `the certificate in ${serving.client.cert} is not for clientAuth (extendedKeyUsage)`,
  });
  await assert.rejects(readBackendReach("https://127.0.0.1:1", { ...ours.client, key: others.client.key }), {
    kind: "invalid",
    message: `${others.client.key} is not the key of the certificate in ${ours.client.cert}`,
  });
  await assert.rejects(readBackendReach("https://127.0.0.1:1", { ...ours.client, cert: ours.client.key }), {
    kind: "invalid",
    message: new RegExp(`${ours.client.key} holds no certificate that can be read`),
  });
});
