import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";
import { afterEach, describe, it, type TestContext } from "node:test";

import { HttpClient, type HttpRequest, type RequestStream } from "./http-client.ts";

/** A server that notes what it is asked. */
async function listen(t: TestContext): Promise<{ readonly port: number; readonly asked: string[] }> {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(request.url ?? "");
    response.end("here");
  });
  server.on("connect", (request, connection) => {
    asked.push(`CONNECT ${request.url ?? ""}`);
    connection.end("HTTP/1.1 403 Forbidden\r\n\r\n");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, asked };
}

describe("a registry is connected to", () => {
  // Another name of this machine: one that is not told by its address.
  const elsewhere = "0.0.0.0";
  const own = { ...process.env };
  afterEach(() => {
    process.env = { ...own };
  });

  function open(t: TestContext, environment: Readonly<Record<string, string>>, proxied = true) {
    process.env = { ...environment };
    const client = new HttpClient({ insecure: false, proxied, userAgent: "test", silenceMs: 30_000 });
    t.after(() => client.close());
    return (url: string) =>
      client.send({ method: "GET", url: new URL(url), signal: AbortSignal.timeout(60_000) });
  }

  for (const [how, noProxy, proxied, isProxied] of [
    ["through the environment's proxy", "registry.internal", true, true],
    ["straight where NO_PROXY names it", `registry.internal,${elsewhere}`, true, false],
    ["straight where it is on this machine", "", false, false],
  ] as const) {
    it(how, async (t) => {
      const registry = await listen(t);
      const proxy = await listen(t);
      const environment = { HTTP_PROXY: `http://127.0.0.1:${proxy.port}`, NO_PROXY: noProxy };
      const url = `http://${elsewhere}:${registry.port}/v2/`;
      const answer = await open(t, environment, proxied)(url);
      assert.equal(String(await answer.bytes(100)), "here");
      assert.deepEqual([proxy.asked, registry.asked], isProxied ? [[url], []] : [[], ["/v2/"]]);
    });
  }

  it("by TLS through the proxy that HTTPS_PROXY names, which learns of the host alone", async (t) => {
    const proxy = await listen(t);
    const send = open(t, { https_proxy: `http://127.0.0.1:${proxy.port}` });
    await assert.rejects(send("https://registry.example.com/v2/secret/manifests/1"));
    assert.deepEqual(proxy.asked, ["CONNECT registry.example.com:443"]);
  });
});

describe("a kept connection that the registry closes when it is used again", () => {
  const body = "manifest";

  /** A server that answers the first request of each connection, and closes it at the second. */
  async function fickle(t: TestContext) {
    const asked: string[] = [];
    const known = new WeakSet<object>();
    const server = createServer((request, response) => {
      void buffer(request).then((sent) => {
        asked.push(`${request.method} ${String(sent)}`.trim());
        if (known.has(request.socket)) {
          request.socket.destroy();
        } else {
          known.add(request.socket);
          response.end("here");
        }
      });
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const client = new HttpClient({ insecure: false, proxied: false, userAgent: "test", silenceMs: 30_000 });
    t.after(() => {
      client.close();
      server.closeAllConnections();
      server.close();
    });
    const url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/v2/`);
    const send = async (request: Pick<HttpRequest, "method" | "body">): Promise<string> => {
      const answer = await client.send({ ...request, url, signal: AbortSignal.timeout(60_000) });
      return String(await answer.bytes(100));
    };
    return { asked, send };
  }

  const stream: RequestStream = {
    length: body.length,
    async *open() {
      yield Buffer.from(body);
    },
  };
  for (const [name, request] of [
    ["is replaced for what is read", { method: "GET" }],
    ["is replaced for what is put", { method: "PUT", body }],
    ["is replaced for what is put as it is read", { method: "PUT", body: stream }],
  ] as const) {
    it(name, async (t) => {
      const { asked, send } = await fickle(t);
      const { length } = await Promise.all([send({ method: "GET" }), send({ method: "GET" })]);
      assert.equal(await send(request), "here");
      const line = `${request.method} ${"body" in request ? body : ""}`.trim();
      assert.deepEqual(asked.slice(length), [line, line, line]);
    });
  }

  it("fails requests that must not be repeated", async (t) => {
    const { asked, send } = await fickle(t);
    await send({ method: "GET" });
    await assert.rejects(send({ method: "POST" }), /^RegistryUnreachable: Post .*: EOF$/);
    assert.deepEqual(asked, ["GET", "POST"]);
  });
});
