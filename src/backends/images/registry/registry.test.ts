import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer as createHttpServer, type RequestListener } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { after, describe, it, type TestContext } from "node:test";

import { makeCertificates } from "../../../../test/support/certificates.ts";
import { registryDialer } from "./http-client.ts";
import { Registry } from "./registry.ts";
import { listenHere } from "../../../../test/support/listen-here.ts";
import { scratchDirectory } from "../../../../test/support/scratch.ts";

const { signal } = new AbortController();
const tlsHandshake = 22;

/** A registry that speaks TLS and HTTP on one port. */
async function serving(t: TestContext, answer: (host: string) => RequestListener): Promise<Registry> {
  const directory = scratchDirectory();
  const { server: files } = await makeCertificates(directory);
  const listener: RequestListener = (request, response) =>
    answer(`127.0.0.1:${(server.address() as AddressInfo).port}`)(request, response);
  const secure = createHttpsServer(
    { cert: await readFile(files.cert), key: await readFile(files.key) },
    listener,
  );
  const plain = createHttpServer(listener);
  const met: Socket[] = [];
  const server = createServer((socket) => {
    met.push(socket.on("error", () => {}));
    socket.once("readable", () => {
      const first = socket.read() as Buffer | null;
      if (first !== null) {
        socket.unshift(first);
        (first[0] === tlsHandshake ? secure : plain).emit("connection", socket);
      }
    });
  });
  const port = await listenHere(server);
  const domain = `127.0.0.1:${port}`;
  const options = {
    insecureHosts: [domain],
    userAgent: "test",
    silenceMs: 60_000,
    compression: "gzip",
  } as const;
  const registry = await Registry.connect(
    domain,
    { username: "own", password: "secret", identityToken: "", registryToken: "" },
    options,
    signal,
  );
  t.after(() => {
    registry[Symbol.dispose]();
    for (const each of met) {
      each.destroy();
    }
    server.close();
  });
  return registry;
}

describe("a registry", () => {
  after(() => registryDialer.close());

  it("is shown no credentials on the way without TLS that it names for an upload", async (t) => {
    const asked: [string, string | undefined][] = [];
    const registry = await serving(t, (host) => (request, response) => {
      const way = "encrypted" in request.socket ? "https" : "http";
      asked.push([`${way} ${request.method}`, request.headers.authorization]);
      request.resume();
      if (request.url === "/v2/") {
        response.writeHead(401, { "www-authenticate": "Basic" }).end();
      } else if (request.method === "POST") {
        response.writeHead(202, { location: `http://${host}/upload` }).end();
      } else {
        response.writeHead(201).end();
      }
    });
    const content = { length: 0, async *open() {} };
    await registry.uploadBlob("own/app", `sha256:${"0".repeat(64)}`, content, undefined, signal);
    const basic = `Basic ${Buffer.from("own:secret").toString("base64")}`;
    assert.deepEqual(asked, [
      ["https GET", undefined],
      ["https POST", basic],
      ["http PUT", undefined],
    ]);
  });

  it("has a token server whose answers are bounded", async (t) => {
    const registry = await serving(t, (host) => (request, response) => {
      if (request.url === "/v2/") {
        const challenge = `Bearer realm="https://${host}/token"`;
        response.writeHead(401, { "www-authenticate": challenge }).end();
      } else {
        response.end(JSON.stringify({ token: "x".repeat(64 * 1024) }));
      }
    });
    const digest = `sha256:${"0".repeat(64)}`;
    await assert.rejects(registry.hasBlob("own/app", digest, signal), /is larger than 65536 bytes$/);
  });
});
