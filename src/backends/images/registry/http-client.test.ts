import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer, type RequestListener } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { type AddressInfo, createServer as createPlainServer, type Server, type Socket } from "node:net";
import { buffer } from "node:stream/consumers";
import { afterEach, describe, it, type TestContext } from "node:test";

import { makeCertificates } from "../../../../test/support/certificates.ts";
import { Dialer, mostIdle } from "./dialer.ts";
import { HttpClient, type HttpRequest, type RequestStream } from "./http-client.ts";
import { listenDuring, listenHere } from "../../../../test/support/listen-here.ts";
import { scratchDirectory } from "../../../../test/support/scratch.ts";

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
  const port = await listenDuring(t, server);
  return { port, asked };
}

/** A client, and the address of a server that is started for it. */
async function clientOf(t: TestContext, server: Server): Promise<{ client: HttpClient; url: URL }> {
  const met: Socket[] = [];
  server.on("connection", (connection: Socket) => met.push(connection.on("error", () => {})));
  const port = await listenHere(server);
  const client = new HttpClient({ insecure: false, proxied: false, userAgent: "test", silenceMs: 120_000 });
  t.after(() => {
    client.close();
    for (const each of met) {
      each.destroy();
    }
    server.close();
  });
  return { client, url: new URL(`http://127.0.0.1:${port}/v2/`) };
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
    const dialer = new Dialer();
    const client = new HttpClient({
      insecure: false,
      proxied,
      userAgent: "test",
      silenceMs: 120_000,
      dialer,
    });
    t.after(() => {
      client.close();
      dialer.close();
    });
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

describe("an answer in chunks", () => {
  /** The answer of a server that sends a number of chunks with the same content. */
  async function get(t: TestContext, content: string, count: number): Promise<Buffer> {
    const chunk = `${content.length.toString(16)}\r\n${content}\r\n`;
    const server = createServer((request, response) => {
      request.socket.on("error", () => {});
      request.socket.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
      request.socket.end(`${chunk.repeat(count)}0\r\n\r\n`, () => response.destroy());
    });
    const { client, url } = await clientOf(t, server);
    const answer = await client.send({ method: "GET", url, signal: AbortSignal.timeout(60_000) });
    return answer.bytes(4 * 1024 * 1024);
  }

  it("is whole", async (t) => {
    assert.equal(String(await get(t, "x", 1000)), "x".repeat(1000));
    const line = "a line of an answer in many chunks\n";
    assert.equal(String(await get(t, line, 100_000)), line.repeat(100_000));
  });

  it("ends if most of them are tiny", async (t) => {
    await assert.rejects(get(t, "x", 1_000_000), /the answer's chunks are too small/);
  });
});

describe("a chain of redirects", () => {
  interface Asked {
    readonly at: string;
    readonly authorization: string | undefined;
  }

  /** Servers, the last of TLS, each of which redirects to the next address of a chain; the last address answers. */
  async function serving(t: TestContext) {
    const asked: Asked[] = [];
    const directory = scratchDirectory();
    const { server: tls } = await makeCertificates(directory);
    const chain: string[] = [];
    const answer: RequestListener = (request, response) => {
      asked.push({ at: request.headers.host ?? "", authorization: request.headers.authorization });
      const next = chain.shift();
      response.writeHead(next === undefined ? 200 : 307, next === undefined ? {} : { location: next });
      response.end("here");
    };
    const pem = { cert: await readFile(tls.cert), key: await readFile(tls.key) };
    const servers = [createServer(answer), createServer(answer), createTlsServer(pem, answer)];
    t.after(() => {
      for (const server of servers) {
        server.closeAllConnections();
        server.close();
      }
    });
    const hosts = await Promise.all(
      servers.map(async (server) => {
        const port = await listenHere(server);
        return `127.0.0.1:${port}`;
      }),
    );
    const client = new HttpClient({ insecure: true, proxied: false, userAgent: "test", silenceMs: 30_000 });
    t.after(() => client.close());
    const [first = "", second = "", secure = ""] = hosts;
    const send = (...redirects: readonly string[]) => {
      chain.splice(0, chain.length, ...redirects);
      asked.length = 0;
      const headers = { authorization: "Bearer secret" };
      const signal = AbortSignal.timeout(60_000);
      return client.send({ method: "GET", url: new URL(`http://${first}/`), headers, signal });
    };
    return { first, second, secure, asked, send };
  }

  it("does not end at a metadata service, whatever the hops before it", async (t) => {
    const { first, second, secure, asked, send } = await serving(t);
    const ways = [
      [],
      [`http://${second}/`],
      [`https://${secure}/`],
      ["/", `http://${second}/`, `https://${secure}/`, `http://${first}/`],
    ];
    for (const way of ways) {
      for (const target of [
        ...["http://169.254.169.254/", "//169.254.170.2/", "http://2852039166/", "http://0xa9.0376.43518/"],
        ...["http://[::ffff:169.254.169.254]/", "http://[fd00:ec2::254]/", "http://[fe80::1]/"],
        ...[
          "https://169.254.169.254/",
          "https://[fd00:ec2::254]/",
          "http://168.63.129.16:32526/",
          "http://100.100.100.200/",
          "http://user:secret@169.254.169.254/",
        ],
      ]) {
        await assert.rejects(send(...way, target), /this address is not asked/);
        assert.equal(asked.length, way.length + 1);
      }
    }
  });

  it("takes credentials along within a host and scheme only, and does not give them back later", async (t) => {
    const { first, second, secure, asked, send } = await serving(t);
    for (const [way, kept] of [
      [["/a", `http://${first}/b`], 3],
      [["/a", `http://${second}/`, `http://${first}/`, "/c"], 2],
      [[`https://${secure}/`, `http://${first}/`], 1],
      [[`http://user:other@${second}/`, `http://${first}/`], 1],
    ] as const) {
      assert.equal((await send(...way)).status, 200);
      const hops = asked.map(({ authorization }) => authorization === "Bearer secret");
      assert.deepEqual(
        hops,
        [...asked].map((_, n) => n < kept),
        String(way),
      );
    }
  });

  it("ends after ten, and at what is no web address", async (t) => {
    const { first, asked, send } = await serving(t);
    await assert.rejects(send(...Array.from({ length: 50 }, () => "/again")), /stopped after 11 redirects/);
    assert.equal(asked.length, 11);
    for (const target of [
      "file:///etc/passwd",
      "ftp://127.0.0.1/",
      "gopher://127.0.0.1/",
      "unix:/run/x.sock",
      "http://",
    ]) {
      await assert.rejects(send(`http://${first}/`, target), /stopped after 2 redirects/, target);
    }
  });
});

describe("connections that redirects leave behind", () => {
  class CountingDialer extends Dialer {
    readonly dialled: Socket[] = [];

    override async dial(...target: Parameters<Dialer["dial"]>): Promise<Socket> {
      const socket = await super.dial(...target);
      this.dialled.push(socket);
      return socket;
    }
  }

  const hosts = 2 * mostIdle;
  const perRequest = 8;

  for (const [name, answer] of [
    ["are as many as all clients may keep, whatever the hosts", ""],
    ["count as well while the rest of an answer has not come", "here"],
  ] as const) {
    it(name, async (t) => {
      let hop = 0;
      const server = createServer((request, response) => {
        hop += 1;
        if (hop % perRequest === 0) {
          response.end("here");
          return;
        }
        const location = `http://127.0.0.${1 + (hop % 250)}:${request.socket.localPort}/`;
        response.writeHead(307, { location, "content-length": 2 * answer.length });
        response.flushHeaders();
        response.write(answer);
        if (answer === "") {
          response.end();
        }
      });
      t.after(() => {
        server.closeAllConnections();
        server.close();
      });
      await once(server.listen(0, "0.0.0.0"), "listening");
      const dialer = new CountingDialer();
      t.after(() => dialer.close());
      const url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
      for (let n = 0; n < hosts / perRequest; n++) {
        const options = { insecure: true, proxied: false, userAgent: "test", silenceMs: 30_000, dialer };
        const client = new HttpClient(options);
        t.after(() => client.close());
        const answered = await client.send({ method: "GET", url, signal: AbortSignal.timeout(60_000) });
        assert.equal((await answered.bytes(1000)).toString(), "here");
      }
      const open = dialer.dialled.filter((socket) => !socket.destroyed).length;
      assert.ok(dialer.dialled.length > mostIdle && open <= mostIdle + 1, `${open} are open`);
    });
  }
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
    const { client, url } = await clientOf(t, server);
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

describe("a request that is answered before it is read", () => {
  it("is not sent on", async (t) => {
    const server = createPlainServer((connection) => {
      connection.once("data", () => {
        connection.pause();
        connection.write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nhere");
      });
    });
    const { client, url } = await clientOf(t, server);
    const length = 64 * 1024 * 1024;
    for (const end of ["read", "discarded"]) {
      const left = Promise.withResolvers<void>();
      const body: RequestStream = {
        length,
        async *open() {
          try {
            for (let sent = 0; sent < length; sent += 65_536) {
              yield Buffer.alloc(65_536);
            }
          } finally {
            left.resolve();
          }
        },
      };
      const answer = await client.send({ method: "PUT", url, body, signal: AbortSignal.timeout(60_000) });
      if (end === "read") {
        assert.equal(String(await answer.bytes(100)), "here");
      } else {
        answer.discard();
      }
      await left.promise;
    }
  });
});

describe("an answer that is none", () => {
  for (const [name, sent] of [
    [
      "switches protocols",
      "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n",
    ],
    ["informs without an end", "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1000)],
  ] as const) {
    it(`${name}, and fails its request`, { timeout: 10_000 }, async (t) => {
      const server = createPlainServer((connection) => {
        connection.once("data", () => connection.write(sent));
      });
      const { client, url } = await clientOf(t, server);
      const request = client.send({ method: "GET", url, signal: new AbortController().signal });
      await assert.rejects(request, { name: "RegistryUnreachable" });
    });
  }
});
