/** TLS to registries: whose certificates are believed. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer as createPlainServer } from "node:http";
import { createServer, type Server } from "node:https";
import path from "node:path";
import { after, before, describe, it, type TestContext } from "node:test";

import { HttpClient } from "../../src/backends/images/registry/http-client.ts";
import { listenHere } from "../support/listen-here.ts";
import { scratchDirectory } from "../support/scratch.ts";

const directory = scratchDirectory();
let server: Server;
let url: URL;

before(async () => {
  const [key, cert] = [path.join(directory, "key.pem"), path.join(directory, "cert.pem")];
  execFileSync(
    "openssl",
    [
      ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"],
      ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
      ["-keyout", key, "-out", cert],
    ].flat(),
    { stdio: "ignore" },
  );
  server = createServer({ key: await readFile(key), cert: await readFile(cert) }, (_request, response) => {
    response.end("over TLS");
  });
  const port = await listenHere(server);
  url = new URL(`https://127.0.0.1:${port}/v2/`);
});

after(async () => {
  const closed = once(server, "close");
  server.close();
  server.closeAllConnections();
  await closed;
});

function client(context: TestContext, insecure: boolean): HttpClient {
  const made = new HttpClient({ insecure, proxied: false, userAgent: "test", silenceMs: 120_000 });
  context.after(() => made.close());
  return made;
}

const { signal } = new AbortController();

describe("a registry's certificate", () => {
  it("that no authority signed is refused", async (context) => {
    const unknown = "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    await assert.rejects(
      client(context, false).send({ method: "GET", url, signal }),
      // Go may add which authority of that name it knows.
      ({ message }: Error) => message.startsWith(`Get "${url.href}": ${unknown}`),
    );
  });

  it("is not looked at where the registry is insecure", async (context) => {
    const response = await client(context, true).send({ method: "GET", url, signal });
    assert.equal((await response.bytes(100)).toString(), "over TLS");
  });
});

describe("a server without TLS", () => {
  it("is told apart from one that is away", async (context) => {
    const plain = createPlainServer((_request, response) => response.end());
    const port = await listenHere(plain);
    context.after(() => plain.close());
    const wrong = new URL(`https://127.0.0.1:${port}/v2/`);
    await assert.rejects(client(context, false).send({ method: "GET", url: wrong, signal }), {
      message: `Get "${wrong.href}": http: server gave HTTP response to HTTPS client`,
    });
  });
});
