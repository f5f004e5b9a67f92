import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { Agent, get, type IncomingMessage } from "node:http";
import { connect, type Socket } from "node:net";
import { PassThrough, type Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { test } from "node:test";

import { ManualClock } from "../common/manual-clock.ts";
import { invalid } from "../common/errors.ts";
import { createLogger } from "../common/logger.ts";
import { serveApi } from "../../test/support/docker-api.ts";
import { RawClient } from "../../test/support/raw-client.ts";
import { until, untilTrue } from "../../test/support/until.ts";
import { replyEmpty } from "./http/reply.ts";
import type { ReplyContext } from "./request-context.ts";
import type { HijackRoute, ReplyRoute } from "./router.ts";

test("an unknown path and a wrong method are both not found", async (t) => {
  const api = await serveApi(t, () => {});
  for (const [method, path] of [
    ["GET", "/nothing"],
    ["GET", "/v1.51/nothing"],
    ["PUT", "/_ping"],
    ["GET", "/containers/create"],
  ] as const) {
    const response = await api.call(method, path);
    assert.equal(response.status, 404, `${method} ${path}`);
    assert.equal(response.headers["content-type"], "application/json");
    assert.deepEqual(response.json(), { message: "page not found" });
  }
});

test("a version outside the range is refused in the words that clients negotiate by", async (t) => {
  const api = await serveApi(t, () => {});
  const newer = await api.call("GET", "/v1.52/_ping");
  assert.equal(newer.status, 400);
  assert.deepEqual(newer.json(), {
    message: "client version 1.52 is too new. Maximum supported API version is 1.51",
  });
  const older = await api.call("GET", "/v1.23/_ping");
  assert.equal(older.status, 400);
  assert.equal(
    older.text,
    "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version\n",
  );
  assert.equal((await api.call("GET", "/v1.24/_ping")).status, 200);
});

test("a path with empty parts, `.` or `..` that is none of the API is redirected to the one that it leads to", async (t) => {
  const api = await serveApi(t, () => {});
  for (const [method, path, location] of [
    ["GET", "//_ping", "/_ping"],
    ["GET", "/v1.51//containers/web/json?size=1", "/v1.51/containers/web/json?size=1"],
    ["POST", "/containers/../_ping", "/_ping"],
    ["GET", "/a/./b/", "/a/b/"],
    ["GET", "/../%3Fa%20%23/json?x=%2f", "/%3Fa%20%23/json?x=%2f"],
    ["GET", "/v1.1/..", "/"],
  ] as const) {
    const response = await api.call(method, path);
    assert.equal(response.status, 301, path);
    assert.equal(response.headers["location"], location);
    assert.equal(response.text, "");
  }
});

test("a percent sign that means nothing is a bad request", async (t) => {
  const api = await serveApi(t, () => {});
  assert.equal((await api.call("GET", "/containers/%zz/json")).status, 400);
});

test("an unexpected failure is a 500 with its message and does not end the server", async (t) => {
  const api = await serveApi(t, () => {}, [
    route("/bug", async () => {
      throw new TypeError("a bug");
    }),
    route("/fine", async ({ response }) => replyEmpty(response, 204)),
  ]);
  const response = await api.call("GET", "/bug");
  assert.equal(response.status, 500);
  assert.deepEqual(response.json(), { message: "a bug" });
  assert.equal((await api.call("GET", "/fine")).status, 204);
});

test("each request is logged with its method, its path, its status and how long it took", async (t) => {
  const lines: Readonly<Record<string, unknown>>[] = [];
  const logger = createLogger({
    level: "debug",
    process: "frontend",
    destination: { write: (line) => void lines.push(JSON.parse(line) as (typeof lines)[number]) },
  });
  const routes = [
    route("/fine", async ({ response }) => replyEmpty(response, 204)),
    route("/refused", async () => {
      throw invalid("not so");
    }),
  ];
  const api = await serveApi(t, () => {}, routes, logger);
  await api.call("GET", "/v1.41/fine?all=1");
  await api.call("GET", "/refused");
  // The answer is out before its line is.
  const requests = await until(() => {
    const found = lines.filter(({ msg }) => msg === "request");
    return found.length === 2 ? found : undefined;
  });
  assert.deepEqual(
    requests.map(({ level, method, url, status }) => ({ level, method, url, status })),
    [
      { level: "debug", method: "GET", url: "/v1.41/fine?all=1", status: 204 },
      { level: "debug", method: "GET", url: "/refused", status: 400 },
    ],
  );
  for (const { ms } of requests) {
    assert.ok(typeof ms === "number" && ms >= 0, String(ms));
  }
  const refused = lines.find(({ msg }) => msg === "request refused");
  assert.equal(refused?.["reason"], "not so");
  lines.length = 0;
  await api.call("GET", `/refused?${"x".repeat(60_000)}`);
  await until(() => lines.some(({ msg }) => msg === "request") || undefined);
  for (const line of lines) {
    assert.ok(JSON.stringify(line).length < 2_000, `a URL of 60,000 characters: ${String(line["msg"])}`);
  }
});

test("a client's disconnect aborts the request's signal, a request that ends by itself does not", async (t) => {
  const started = Promise.withResolvers<void>();
  const aborted = Promise.withResolvers<void>();
  const clock = new ManualClock();
  let quick: AbortSignal | undefined;
  let slow: AbortSignal | undefined;
  const routes = [
    route("/slow", async ({ signal }) => {
      slow = signal;
      signal.addEventListener("abort", () => aborted.resolve());
      started.resolve();
      await aborted.promise;
    }),
    route("/quick", async ({ signal, response }) => {
      quick = signal;
      replyEmpty(response, 204);
    }),
  ];
  const api = await serveApi(t, () => {}, routes, undefined, clock);
  await api.call("GET", "/quick");
  assert.equal(quick?.aborted, false);
  const client = connect(api.socket);
  client.write("GET /slow HTTP/1.1\r\nHost: docker\r\n\r\n");
  await started.promise;
  client.destroy();
  await untilTrue(async () => {
    await clock.advance(1_000);
    return slow?.aborted === true;
  });
});

test("a client that says at once that it sends no more gets its answer", async (t) => {
  const api = await serveApi(t, () => {}, [
    route("/soon", async ({ response, request }) => {
      if (!request.socket.readableEnded) {
        await once(request.socket, "end");
      }
      replyEmpty(response, 204);
    }),
  ]);
  const client = connect({ path: api.socket, allowHalfOpen: true });
  client.end("GET /soon HTTP/1.1\r\nHost: docker\r\n\r\n");
  const answer = Buffer.concat((await client.toArray()) as Buffer[]).toString();
  assert.match(answer, /^HTTP\/1\.1 204 No Content\r\n/);
});

test("two Host headers and one that is none are refused, of a request to hijack too", async (t) => {
  const reached = async (): Promise<void> => assert.fail("a handler was reached");
  const api = await serveApi(t, () => {}, [
    { ...route("/plain", reached), method: "POST" },
    { method: "POST", path: "/raw", answeredBy: "frontend", hijack: true, handler: reached },
  ]);
  for (const path of ["/plain", "/raw"]) {
    for (const upgrade of ["", "Connection: Upgrade\r\nUpgrade: tcp\r\n"]) {
      for (const [hosts, message] of [
        ["Host: a\r\nhost: b\r\n", "too many Host headers"],
        ["Host: a b\r\n", "malformed Host header"],
        ["Host: a/b\r\n", "malformed Host header"],
        ["Host: \u00e4\r\n", "malformed Host header"],
      ]) {
        const client = connect({ path: api.socket, allowHalfOpen: true });
        client.end(`POST ${path} HTTP/1.1\r\n${hosts}${upgrade}Content-Length: 0\r\n\r\n`);
        const answer = Buffer.concat((await client.toArray()) as Buffer[]).toString();
        assert.match(answer, /^HTTP\/1\.1 400 /, `${path} ${upgrade} ${hosts}`);
        assert.ok(answer.endsWith(`\r\n\r\n{"message":"${message}"}\n`), answer);
      }
    }
  }
  for (const host of ["", "[::1]:80", "%2Fvar%2Frun%2Fdocker.sock", "a_b.c:80"]) {
    const client = connect({ path: api.socket, allowHalfOpen: true });
    client.end(`GET /none HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
    assert.match(Buffer.concat((await client.toArray()) as Buffer[]).toString(), /^HTTP\/1\.1 404 /, host);
  }
});

test("a body in any transfer coding but chunked alone is refused, and ends its connection", async (t) => {
  const reached = async (): Promise<void> => assert.fail("a handler was reached");
  const api = await serveApi(t, () => {}, [
    { ...route("/plain", reached), method: "POST" },
    { method: "POST", path: "/raw", answeredBy: "frontend", hijack: true, handler: reached },
    route("/next", reached),
  ]);
  const behind = "3\r\nabc\r\n0\r\n\r\nGET /next HTTP/1.1\r\nHost: d\r\n\r\n";
  const listed = ["gzip, chunked", "identity, chunked", ",chunked", "gzip\r\nTransfer-Encoding: chunked"];
  const others = [
    "identity",
    "gzip",
    "chunked, chunked",
    "chunked\r\nTransfer-Encoding: chunked",
    "xchunked",
    "",
  ];
  const withLength = ["chunked\r\nContent-Length: 3"];
  for (const path of ["/plain", "/raw", "/nowhere"]) {
    for (const upgrade of ["", "Connection: Upgrade\r\nUpgrade: tcp\r\n"]) {
      for (const [codings, status] of [
        [listed, "501"],
        [[...others, ...withLength], "(400|501)"],
      ] as const) {
        for (const coding of codings) {
          const client = connect({ path: api.socket, allowHalfOpen: true });
          client.end(
            `POST ${path} HTTP/1.1\r\nHost: d\r\n${upgrade}Transfer-Encoding: ${coding}\r\n\r\n${behind}`,
          );
          const answer = Buffer.concat((await client.toArray()) as Buffer[]).toString();
          assert.match(answer, new RegExp(`^HTTP/1\\.1 ${status} `), `${path} ${upgrade} ${coding}`);
          assert.equal(answer.split("HTTP/1.1 ").length, 2, answer);
          client.destroy();
        }
      }
    }
  }
  const { status, text } = await api.call("POST", "/nowhere", {
    body: "abc",
    headers: { "Transfer-Encoding": "Chunked" },
  });
  assert.equal(status, 404, text);
});

test("an idle connection is kept for the client's next request", async (t) => {
  const api = await serveApi(t, () => {}, [route("/a", async ({ response }) => replyEmpty(response, 200))]);
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.after(() => agent.destroy());
  const ports = new Set<unknown>();
  for (let index = 0; index < 3; index += 1) {
    await new Promise<void>((resolve, reject) => {
      get({ socketPath: api.socket, path: "/a", agent }, (response) => {
        ports.add(response.socket);
        response.resume();
        response.on("end", resolve);
      }).on("error", reject);
    });
  }
  assert.equal(ports.size, 1);
});

test("a client that sends its body behind a refusal can do so, and is let go then", async (t) => {
  const api = await serveApi(t, () => {}, [
    route("/refused", async () => {
      throw invalid("not this");
    }),
  ]);
  const socket = connect({ path: api.socket, allowHalfOpen: true });
  t.after(() => socket.destroy());
  let received = "";
  socket.setEncoding("utf8").on("data", (chunk: string) => {
    received += chunk;
  });
  socket.write(
    "GET /refused HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
  );
  await until(() => received.includes("not this") || undefined);
  for (const rest of ["1\r\ny\r\n", "0\r\n\r\n"]) {
    await new Promise<void>((resolve, reject) => {
      socket.write(rest, (error) => (error ? reject(error) : resolve()));
    });
  }
  await once(socket, "end");
  assert.match(received, /^HTTP\/1\.1 400 /);
});

test("a shutdown lets a request end, and refuses new connections meanwhile", async (t) => {
  const started = Promise.withResolvers<void>();
  const release = Promise.withResolvers<void>();
  const api = await serveApi(t, () => {}, [
    route("/slow", async ({ response }) => {
      started.resolve();
      await release.promise;
      replyEmpty(response, 204);
    }),
  ]);
  const answer = api.call("GET", "/slow");
  await started.promise;
  const closed = api.server.close();
  await assert.rejects(api.call("GET", "/slow"), /ENOENT|ECONNREFUSED/);
  release.resolve();
  assert.equal((await answer).status, 204);
  await closed;
});

test("credentials in a header may be longer than Node's default allows", async (t) => {
  let length = 0;
  const api = await serveApi(t, () => {}, [
    route("/a", async ({ request, response }) => {
      length = request.headers["x-registry-auth"]?.length ?? 0;
      replyEmpty(response, 200);
    }),
  ]);
  await api.call("GET", "/a", { headers: { "X-Registry-Auth": "a".repeat(100_000) } });
  assert.equal(length, 100_000);
});

test("long headers share their room while their requests are under way, whatever their kind", async (t) => {
  const end = Promise.withResolvers<void>();
  t.after(() => end.resolve());
  const wait = async ({ response }: ReplyContext): Promise<void> => {
    await end.promise;
    replyEmpty(response, 200);
  };
  const hijack: HijackRoute = {
    ...{ method: "POST", path: "/hijacked", kind: "session", hijack: true },
    handler: () => Promise.reject(new Error("the handler was called")),
  };
  const api = await serveApi(t, () => {}, [
    { ...route("/call", wait) },
    { ...route("/stream", wait), kind: "stream" },
    route("/ordinary", async ({ response }) => replyEmpty(response, 200)),
    hijack,
  ]);
  const long = { "X-Long": "a".repeat(1_000_000) };
  const pending = Array.from({ length: 70 }, (_, n) =>
    api.call("GET", n % 2 === 0 ? "/call" : "/stream", { headers: long }),
  );
  const refused = { message: "long headers of requests have at most 67108864 bytes together" };
  const first = await Promise.race(pending);
  assert.deepEqual([first.status, first.json()], [503, refused]);
  const upgrade = { Connection: "Upgrade", Upgrade: "tcp" };
  const hijacked = await api.call("POST", "/hijacked", { headers: { ...long, ...upgrade } });
  assert.deepEqual([hijacked.status, hijacked.json()], [503, refused]);
  const ordinary = { "X-Long": "a".repeat(16_000) };
  assert.equal((await api.call("GET", "/ordinary", { headers: ordinary })).status, 200);
  const credentials = { "X-Registry-Config": "a".repeat(60_000) };
  assert.equal((await api.call("GET", "/ordinary", { headers: credentials })).status, 200);
  end.resolve();
  await Promise.all(pending);
  assert.equal((await api.call("GET", "/ordinary", { headers: long })).status, 200);
});

test("a header counts what its pieces take until its request is over, and its connection serves others", async (t) => {
  const end = Promise.withResolvers<void>();
  t.after(() => end.resolve());
  let [begun, refused] = [0, 0];
  const api = await serveApi(t, () => {}, [
    route("/wait", async ({ response }) => {
      begun += 1;
      await end.promise;
      replyEmpty(response, 200);
    }),
    route("/ordinary", async ({ response }) => replyEmpty(response, 200)),
  ]);
  // Some 15,000 characters, which count as 250,000 bytes: half for those of the query, half for names and values.
  const query = `x=${"a".repeat(10_000)}`;
  const headers = Object.fromEntries(Array.from({ length: 900 }, (_, n) => [`x${n}`, "a"]));
  const ask = async (agent: Agent, path: string): Promise<readonly [number | undefined, boolean]> => {
    const asked = get({ socketPath: api.socket, path: `${path}?${query}`, agent, headers });
    const [answer] = (await once(asked, "response")) as [IncomingMessage];
    await once(answer.resume(), "end");
    return [answer.statusCode, answer.headers.connection === "keep-alive"];
  };
  const clients = Array.from({ length: 300 }, () => new Agent({ keepAlive: true }));
  t.after(() => clients.map((agent) => agent.destroy()));
  for (const agent of clients) {
    assert.deepEqual(await ask(agent, "/ordinary"), [200, true]);
  }
  const pending = clients.map(async (agent) => {
    const [status] = await ask(agent, "/wait");
    refused += Number(status === 503);
  });
  await untilTrue(() => begun + refused === pending.length);
  assert.ok(refused > 0, "none was refused");
  end.resolve();
  await Promise.all(pending);
});

test("long headers keep their room until their requests are answered, whether or not their clients have left", async (t) => {
  const end = Promise.withResolvers<void>();
  t.after(() => end.resolve());
  let [begun, left, ended] = [0, 0, 0];
  const api = await serveApi(t, () => {}, [
    route("/wait", async ({ request }) => {
      request.socket.once("close", () => (left += 1));
      begun += 1;
      await end.promise;
      ended += 1;
    }),
    route("/ordinary", async ({ response }) => replyEmpty(response, 200)),
  ]);
  const long = { "X-Long": "a".repeat(1_000_000) };
  const clients = Array.from({ length: 60 }, () =>
    get({ socketPath: api.socket, path: "/wait", headers: long }).on("error", () => {}),
  );
  await untilTrue(() => begun === clients.length);
  for (const client of clients) {
    client.destroy();
  }
  await untilTrue(() => left === clients.length);
  assert.equal((await api.call("GET", "/ordinary", { headers: long })).status, 503);
  end.resolve();
  await untilTrue(() => ended === left);
  assert.equal((await api.call("GET", "/ordinary", { headers: long })).status, 200);
});

test("a path has at most 16,384 characters, and an error quotes no more than 5,000 where it is longer", async (t) => {
  const api = await serveApi(t, () => {}, [
    route("/a", ({ query }) => Promise.reject(invalid(`no such thing: ${query.get("x") ?? ""}`))),
  ]);
  const path = await api.call("GET", `/${'"'.repeat(16_384)}`);
  assert.deepEqual(path.json(), { message: "the path has more than 16384 characters" });
  const { message } = (await api.call("GET", `/a?x=${"b".repeat(100_000)}`)).json() as { message: string };
  assert.ok(message.length < 6_000, `${message.length}`);
});

test("a connection is closed behind the answer to a long header, whose body may never end", async (t) => {
  const api = await serveApi(t, () => {});
  for (const [more, status] of [
    ["", "200 OK"],
    ["Expect: more\r\n", "417 Expectation Failed"],
  ]) {
    const client = connect(api.socket);
    t.after(() => client.destroy());
    let answer = "";
    client.setEncoding("latin1").on("data", (text) => (answer += String(text)));
    const header = `Host: d\r\nContent-Length: 9\r\n${more}X-Long: ${"a".repeat(70_000)}\r\n`;
    client.write(`GET /_ping HTTP/1.1\r\n${header}\r\n`);
    await once(client, "close");
    assert.ok(answer.startsWith(`HTTP/1.1 ${status}\r\n`), answer);
    assert.ok(answer.includes("\r\nConnection: close\r\n"), answer);
  }
});

test("an upgrade of a route that does not hijack is an ordinary request with its body", async (t) => {
  let body = "";
  const api = await serveApi(t, () => {}, [
    {
      ...route("/plain", async ({ request, response }) => {
        body = Buffer.concat((await request.toArray()) as Buffer[]).toString();
        replyEmpty(response, 200);
      }),
      method: "POST",
    },
  ]);
  const headers = { Connection: "Upgrade", Upgrade: "tcp" };
  const response = await api.call("POST", "/plain", { body: "all of it", headers });
  assert.equal(response.status, 200);
  assert.equal(body, "all of it");
});

test("an error before a hijack is an HTTP error, with an Upgrade header and without", async (t) => {
  const api = await serveApi(t, () => {}, [
    {
      method: "POST",
      path: "/raw",
      answeredBy: "frontend",
      hijack: true,
      handler: async () => {
        throw invalid("not like this");
      },
    },
  ]);
  for (const headers of [{ Connection: "Upgrade", Upgrade: "tcp" }, {}]) {
    const response = await api.call("POST", "/raw", { body: "{}", headers });
    assert.equal(response.status, 400);
    assert.deepEqual(response.json(), { message: "not like this" });
  }
});

test("bytes that each come by themselves and wait are kept in few pieces, of a hijacked connection and of a body", async (t) => {
  const pieces: number[] = [];
  let waits = Promise.withResolvers<void>();
  const receive = async (stream: Readable): Promise<void> => {
    stream.pause();
    for (let sent = 0; sent < 1_000; sent++) {
      stream.push(Buffer.from("a"));
    }
    waits.resolve();
    let count = 0;
    let bytes = 0;
    stream.on("data", ({ length }: Buffer) => {
      count += 1;
      bytes += length;
    });
    stream.resume();
    await once(stream, "end");
    assert.equal(bytes, 1_004);
    pieces.push(count);
  };
  const raw: HijackRoute = {
    ...{ method: "POST", path: "/raw", answeredBy: "frontend", hijack: true },
    handler: async ({ socket }) => {
      await receive(socket);
      socket.end("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    },
  };
  const body = async ({ request, response }: ReplyContext): Promise<void> => {
    await receive(request);
    replyEmpty(response, 200);
  };
  const api = await serveApi(t, () => {}, [raw, { ...route("/body", body), method: "POST" }]);
  for (const framing of ["Content-Length: 4", "Transfer-Encoding: chunked"]) {
    for (const path of ["/raw", "/body"]) {
      const client = connect({ path: api.socket, allowHalfOpen: true });
      t.after(() => client.destroy());
      const content = framing.endsWith("4") || path === "/raw" ? "body" : "4\r\nbody\r\n0\r\n\r\n";
      waits = Promise.withResolvers();
      const announced = path === "/raw" ? "Connection: close" : framing;
      client.write(`POST ${path} HTTP/1.1\r\nHost: d\r\n${announced}\r\n\r\n`);
      await waits.promise;
      client.end(content);
      assert.match(String((await once(client, "data"))[0]), /^HTTP\/1.1 200/);
    }
  }
  assert.ok(Math.max(...pieces) < 10, `${pieces} pieces`);
});

test("a client of a raw answer that does not leave is left, once it has all of it", async (t) => {
  const long = "x".repeat(4_000_000);
  const connections = new Set<Socket>();
  const raw = (path: string, handler: HijackRoute["handler"]): HijackRoute => ({
    ...{ method: "POST", path, answeredBy: "frontend", hijack: true },
    handler: async (context) => {
      connections.add(context.socket as Socket);
      await handler(context);
    },
  });
  const api = await serveApi(t, () => {}, [
    raw("/refused", async () => {
      throw invalid("not like this");
    }),
    raw("/long", async ({ socket, takeOver }) => {
      takeOver();
      socket.end(long);
    }),
  ]);
  for (const [path, end] of [
    ["/refused", '{"message":"not like this"}\n'],
    ["/long", long],
  ] as const) {
    const client = connect({ path: api.socket, allowHalfOpen: true });
    t.after(() => client.destroy());
    client.write(`POST ${path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n`);
    let answer = "";
    client.setEncoding("utf8").on("data", (chunk: string) => {
      answer += chunk;
    });
    await once(client, "end");
    assert.ok(answer.endsWith(end), path);
    assert.equal(connections.size, 1);
    await until(() => [...connections].every(({ destroyed }) => destroyed) || undefined);
    connections.clear();
  }
});

function route(path: string, handler: (context: ReplyContext) => Promise<void>): ReplyRoute {
  return { method: "GET", path, answeredBy: "frontend", handler };
}

test("nothing is done for clients that have left before their requests are read", async (t) => {
  const handled: string[] = [];
  const work = async ({ response, query }: ReplyContext): Promise<void> => {
    handled.push(String(query));
    replyEmpty(response, 204);
  };
  const api = await serveApi(t, () => {}, [{ method: "GET", path: "/work", handler: work }]);
  // This process reads nothing until these clients have left.
  const leave = (index: number): string =>
    `connect(${JSON.stringify(api.socket)}, function () { this.end("GET /work?${index} HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n", () => this.destroy()); });`;
  const script = `const { connect } = require("node:net"); ${[1, 2, 3].map(leave).join(" ")}`;
  assert.equal(spawnSync(process.execPath, ["-e", script]).status, 0);
  const half = connect({ path: api.socket, allowHalfOpen: true });
  half.end("GET /work?half HTTP/1.1\r\nHost: a\r\n\r\n");
  assert.match(String((await once(half, "data"))[0]), /^HTTP\/1\.1 204 /);
  half.destroy();
  assert.deepEqual(handled, ["half="]);
});

test("an answer that has begun is cut where its request cannot be passed on any more", async (t) => {
  const handler = async ({ request, response }: ReplyContext): Promise<void> => {
    response.writeHead(200);
    response.write("begun");
    const elsewhere = new PassThrough();
    elsewhere.once("data", () => elsewhere.destroy(new Error("it is gone")));
    await pipeline(request, elsewhere);
  };
  const api = await serveApi(t, () => {}, [{ method: "POST", path: "/forward", kind: "transfer", handler }]);
  const client = new RawClient(api.socket);
  t.after(() => client.close());
  client.send("POST /forward HTTP/1.1\r\nHost: d\r\nContent-Length: 1000\r\n\r\nbody");
  await until(() => client.ended || client.closed || undefined);
  assert.match(client.bytes.toString(), /begun/);
  assert.equal((await api.call("GET", "/nothing")).status, 404);
});
