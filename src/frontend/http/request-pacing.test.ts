import assert from "node:assert/strict";
import { once } from "node:events";
import { IncomingMessage, ServerResponse } from "node:http";
import { Socket } from "node:net";
import { test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";

import fc from "fast-check";

import { garbageCollection } from "../../../test/support/garbage-collection.ts";
import { serveApi } from "../../../test/support/docker-api.ts";
import { hijackRequest, RawClient } from "../../../test/support/raw-client.ts";
import { until, untilTrue } from "../../../test/support/until.ts";
import { ManualClock } from "../../common/manual-clock.ts";
import { HijackedConnection } from "../hijack.ts";
import type { ReplyContext } from "../request-context.ts";
import type { ReplyRoute } from "../router.ts";
import { RequestPace } from "./request-pacing.ts";
import { LongHeaders } from "./long-headers.ts";

function route(method: "GET" | "PUT", path: string, handler: ReplyRoute["handler"]): ReplyRoute {
  return { method, path, answeredBy: "frontend", handler };
}

const requestTo = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: d\r\n\r\n`;

test("a client that sends requests and takes no answer has one of them under way", async (t) => {
  let begun = 0;
  const api = await serveApi(t, () => {}, [
    route("GET", "/large", async ({ response }) => {
      begun += 1;
      response.writeHead(200, { "Content-Length": 4 * 1024 ** 2 });
      response.end(Buffer.alloc(4 * 1024 ** 2));
    }),
    route("GET", "/fine", async ({ response }) => void response.end("fine")),
  ]);
  const hogs = Array.from({ length: 3 }, () => new RawClient(api.socket));
  t.after(() => hogs.map((hog) => hog.close()));
  for (const hog of hogs) {
    hog.socket.pause();
    hog.send(requestTo("/large").repeat(15_000));
  }
  await until(() => begun >= hogs.length || undefined);
  for (let n = 0; n < 20; n += 1) {
    assert.equal((await api.call("GET", "/fine")).text, "fine");
  }
  assert.equal(begun, hogs.length);
});

test("connections that ask without a pause leave turns of the event loop to others, above all to one that has just connected", async (t) => {
  let begun = 0;
  const counts: number[] = [];
  const count = route("GET", "/count", async ({ response }) => {
    begun += 1;
    response.end();
  });
  const fine = route("GET", "/fine", async ({ response }) => void response.end("fine"));
  const api = await serveApi(t, () => {}, [count, fine]);
  const clients = Array.from({ length: 400 }, () => new RawClient(api.socket));
  t.after(() => clients.map((client) => client.close()));
  const rounds = 10; // Further requests among them.
  for (let round = 1; round <= rounds; round += 1) {
    for (const client of clients) {
      client.send(requestTo("/count"));
    }
    const isLast = round === rounds;
    const answer = isLast ? api.call("GET", "/fine").then(() => begun) : undefined;
    for (let before = begun; begun < round * clients.length; before = begun) {
      await nextTurn();
      counts.push(begun - before);
    }
    const behind = round * clients.length - ((await answer) ?? 0);
    assert.ok(!isLast || behind > clients.length / 2, `${behind} begin later`);
  }
  assert.ok(Math.max(...counts) <= 2 * 64, `${Math.max(...counts)} in a turn`); // This test may take two of them.
});

test("a client that has just connected waits for none of those that kept their connections for later", async (t) => {
  let now = 0;
  t.mock.method(performance, "now", () => now);
  let begun = 0;
  const count = route("GET", "/count", async ({ response }) => {
    begun += 1;
    response.end();
  });
  const fine = route("GET", "/fine", async ({ response }) => void response.end("fine"));
  const api = await serveApi(t, () => {}, [count, fine]);
  const crowd = Array.from({ length: 400 }, () => new RawClient(api.socket));
  t.after(() => crowd.map((client) => client.close()));
  await Promise.all(crowd.map(({ socket }) => once(socket, "connect")));
  await api.call("GET", "/fine"); // Those before it are accepted.
  now += 2_000;
  for (const client of crowd) {
    client.send(requestTo("/count"));
  }
  await api.call("GET", "/fine");
  assert.ok(begun < crowd.length / 2, `${begun} have begun before`);
  await until(() => begun === crowd.length || undefined);
});

test("a connection that asks now and then waits for none of those that ask without a pause", async (t) => {
  let now = 0;
  t.mock.method(performance, "now", () => now);
  let begun = 0;
  let behind = 0;
  const rounds = 11;
  const count = route("GET", "/count", async ({ response }) => {
    begun += 1;
    response.end();
  });
  const fine = route("GET", "/fine", async ({ response }) => {
    behind = rounds * crowd.length - begun;
    response.end("fine");
  });
  const api = await serveApi(t, () => {}, [count, fine]);
  const crowd = Array.from({ length: 400 }, () => new RawClient(api.socket));
  const monitor = new RawClient(api.socket);
  t.after(() => [...crowd, monitor].map((client) => client.close()));
  for (let n = 1; n < rounds; n += 1) {
    monitor.send(requestTo("/fine"));
    await until(() => monitor.bytes.toString().split("fine").length === n + 1 || undefined);
  }
  for (let round = 1; round <= rounds; round += 1) {
    now += round === rounds ? 0 : 2_000;
    for (const client of crowd) {
      client.send(requestTo("/count"));
    }
    if (round === rounds) {
      monitor.send(requestTo("/fine"));
    }
    await until(() => begun === round * crowd.length || undefined);
  }
  await until(() => monitor.bytes.toString().split("fine").length === rounds + 1 || undefined);
  assert.ok(behind > crowd.length / 2, `${behind} begin later`);
});

test("a request that waits for its turn comes whole, be it half-closed or hijacked", async (t) => {
  const handler = async ({ request, response }: ReplyContext): Promise<void> => {
    let bytes = 0;
    for await (const chunk of request) {
      bytes += (chunk as Buffer).length;
    }
    response.end(`<${bytes}>`);
  };
  const api = await serveApi(t, () => {}, [
    route("PUT", "/upload", handler),
    {
      method: "POST",
      path: "/raw",
      answeredBy: "frontend",
      hijack: true,
      async handler(context) {
        const connection = new HijackedConnection(context);
        const socket = connection.accept(false);
        for await (const chunk of socket) {
          socket.write(chunk as Buffer);
        }
      },
    },
  ]);
  const head = "PUT /upload HTTP/1.1\r\nHost: d\r\nContent-Length: 100000\r\n\r\n";
  const clients = Array.from({ length: 200 }, (_, n) => {
    const client = new RawClient(api.socket);
    if (n % 2 === 0) {
      client.send(head).send(Buffer.alloc(100_000));
    } else {
      client.send(hijackRequest("/raw")).send("said ").send("more");
    }
    client.socket.end();
    return client;
  });
  t.after(() => clients.map((client) => client.close()));
  for (const [n, client] of clients.entries()) {
    const expected = n % 2 === 0 ? "<100000>" : "said more";
    await until(() => client.bytes.toString().endsWith(expected) || undefined);
  }
});

test("a request begins when the one before it was answered, on each connection for itself", async (t) => {
  const waiting: (() => void)[] = [];
  let begun = 0;
  const api = await serveApi(t, () => {}, [
    route("GET", "/slow", async ({ response }) => {
      begun += 1;
      await new Promise<void>((resolve) => waiting.push(resolve));
      response.end("slow");
    }),
  ]);
  const clients = [new RawClient(api.socket), new RawClient(api.socket)];
  t.after(() => clients.map((client) => client.close()));
  for (const client of clients) {
    client.send(requestTo("/slow").repeat(5));
  }
  for (let round = 1; round <= 5; round += 1) {
    await until(() => waiting.length === 2 || undefined);
    assert.equal(begun, 2 * round);
    for (const end of waiting.splice(0)) {
      end();
    }
  }
  for (const client of clients) {
    await until(() => client.bytes.toString().split("slow").length === 6 || undefined);
  }
});

test("a client that leaves behind requests is noticed once the request before them is answered", async (t) => {
  const slow = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  const gone = Promise.withResolvers<void>();
  let isGone: boolean = false;
  let contexts = 0;
  const handler = async ({ response, signal }: ReplyContext): Promise<void> => {
    contexts += 1;
    if (contexts === 1) {
      begun.resolve();
      await slow.promise;
      response.end("slow");
      return;
    }
    signal.addEventListener("abort", () => {
      isGone = true;
      gone.resolve();
    });
    await gone.promise;
  };
  const clock = new ManualClock();
  const api = await serveApi(t, () => {}, [route("GET", "/slow", handler)], undefined, clock);
  const client = new RawClient(api.socket);
  client.send(requestTo("/slow").repeat(2));
  await begun.promise;
  client.socket.end();
  slow.resolve();
  await untilTrue(async () => {
    await clock.advance(1_000);
    return isGone;
  });
  client.close();
});

test("a client that leaves behind a body that nobody reads is noticed", async (t) => {
  let left = 0;
  const handler = async ({ signal }: ReplyContext): Promise<void> => {
    await new Promise((resolve) => signal.addEventListener("abort", resolve));
    left += 1;
  };
  const api = await serveApi(t, () => {}, [
    { method: "POST", path: "/waits", kind: "stream", handler },
    { method: "POST", path: "/stops", handler },
    { method: "GET", path: "/archive", kind: "transfer", handler },
  ]);
  for (const [before, target] of ["POST /waits", "POST /stops", "GET /archive"].entries()) {
    const client = new RawClient(api.socket);
    client.send(`${target} HTTP/1.1\r\nHost: d\r\nContent-Length: 10000000\r\n\r\n`);
    client.send(Buffer.alloc(1024 ** 2));
    await until(() => client.socket.writableLength === 0 || undefined);
    client.close();
    await until(() => left > before || undefined);
  }
});

/** A request with a body in one of HTTP's forms, and the body. */
const upload = fc
  .tuple(
    fc.oneof(
      fc.string({ maxLength: 60 }),
      fc.constantFrom("\r\n\r\n", "a\r\n\r\nGET /x HTTP/1.1\r\n\r\n", "\r\n\r"),
    ),
    fc.boolean(),
    fc.array(fc.integer({ min: 1, max: 7 }), { maxLength: 5 }),
    fc.constantFrom("", "\r\n", "\r\n\r\n"),
  )
  .map(([text, isChunked, sizes, behind]) => {
    const body = Buffer.from(text).toString("latin1");
    if (!isChunked) {
      return {
        body,
        sent: `PUT /echo HTTP/1.1\r\nHost: d\r\nContent-Length: ${body.length}\r\n\r\n${body}${behind}`,
      };
    }
    let rest = body;
    let chunks = "";
    for (const size of [...sizes, rest.length]) {
      const part = rest.slice(0, size);
      rest = rest.slice(size);
      chunks += part === "" ? "" : `${part.length.toString(16)}\r\n${part}\r\n`;
    }
    const head = "PUT /echo HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n";
    return { body, sent: `${head}${chunks}0\r\n\r\n${behind}` };
  });

test("however requests are cut into packets, each is answered once, in order, with its own body", async (t) => {
  let underWay = 0;
  const api = await serveApi(t, () => {}, [
    route("PUT", "/echo", async ({ request, response }) => {
      underWay += 1;
      assert.equal(underWay, 1);
      const chunks: Buffer[] = [];
      for await (const chunk of request) {
        chunks.push(chunk as Buffer);
      }
      response.end(`<${Buffer.concat(chunks).toString("base64")}>`);
      underWay -= 1;
    }),
  ]);
  await fc.assert(
    fc.asyncProperty(
      fc.array(upload, { minLength: 1, maxLength: 5 }),
      fc.array(fc.nat(), { maxLength: 8 }),
      fc.boolean(),
      async (uploads, cuts, closes) => {
        const text = uploads.map(({ sent }) => sent).join("");
        const places = [0, ...cuts.map((cut) => cut % text.length), text.length].sort((a, b) => a - b);
        const client = new RawClient(api.socket);
        for (const [n, end] of places.slice(1).entries()) {
          client.send(Buffer.from(text.slice(places[n], end), "latin1"));
          await new Promise((resolve) => setImmediate(resolve));
        }
        if (closes) {
          client.socket.end();
        }
        const expected = uploads.map(({ body }) => Buffer.from(body, "latin1").toString("base64"));
        const answers = (): string[] =>
          [...client.bytes.toString().matchAll(/<([^>]*)>/g)].map(([, body = ""]) => body);
        await until(() => answers().length === uploads.length || client.ended || client.closed || undefined);
        assert.deepEqual(answers(), expected);
        client.close();
      },
    ),
    { numRuns: 200 },
  );
});

test("requests that nobody has to be asked for are held too: without a host, with an expectation", async (t) => {
  const api = await serveApi(t, () => {}, [
    route("GET", "/fine", async ({ response }) => void response.end("fine")),
  ]);
  const client = new RawClient(api.socket);
  client.send("GET /fine HTTP/1.1\r\nHost: d\r\nExpect: nothing\r\n\r\n").send(requestTo("/fine"));
  await until(() => client.bytes.toString().endsWith("fine") || undefined);
  assert.match(client.bytes.toString(), /^HTTP\/1\.1 417 /);
  client.close();
  const hostless = new RawClient(api.socket);
  hostless.send("GET /fine HTTP/1.1\r\n\r\n".repeat(1000));
  await hostless.end();
  assert.match(hostless.bytes.toString(), /^HTTP\/1\.1 400 /);
  assert.equal(hostless.bytes.toString().split("HTTP/1.1 ").length, 2);
  hostless.close();
});

/** A route that takes uploads and answers how much came, and what it has begun. */
function uploadRoute(path: string, begun: { count: number }): ReplyRoute {
  return {
    ...route("PUT", path, async ({ request, response }) => {
      begun.count += 1;
      let bytes = 0;
      for await (const chunk of request) {
        bytes += (chunk as Buffer).length;
      }
      response.end(`<${bytes}>`);
    }),
  };
}

const uploadHead = (path: string): string =>
  `PUT ${path} HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n`;

test("uploads of one connection come whole, one after another, however they are cut", async (t) => {
  const begun = { count: 0 };
  const api = await serveApi(t, () => {}, [
    uploadRoute("/upload", begun),
    route("GET", "/fine", async ({ response }) => void response.end("<fine>")),
  ]);
  const client = new RawClient(api.socket);
  t.after(() => client.close());
  const answers = (): string[] =>
    [...client.bytes.toString().matchAll(/<([^>]*)>/g)].map(([, body = ""]) => body);
  const chunk = `${(32_768).toString(16)}\r\n${"\r\n\r\n".repeat(8192)}\r\n`;
  for (let round = 1; round <= 3; round += 1) {
    client.send(uploadHead("/upload")).send(chunk.repeat(10)).send("0\r\n").send("\r\n");
    await until(() => answers().length === 2 * round - 1 || undefined);
    client.send(requestTo("/fine"));
    await until(() => answers().length === 2 * round || undefined);
  }
  assert.deepEqual(answers(), Array.from({ length: 3 }, () => ["327680", "fine"]).flat());
  const length = 1024 ** 2;
  client.send(`PUT /upload HTTP/1.1\r\nHost: d\r\nContent-Length: ${length}\r\n\r\n`);
  client.send(Buffer.alloc(length, "\r\n"));
  await until(() => answers().at(-1) === String(length) || undefined);
  assert.equal(begun.count, 4);
});

test("an upload that nobody reads holds its client up, and goes on when it is read", async (t) => {
  const go = Promise.withResolvers<void>();
  let bytes = 0;
  const api = await serveApi(t, () => {}, [
    {
      ...route("PUT", "/upload", async ({ request, response }) => {
        await go.promise;
        for await (const chunk of request) {
          bytes += (chunk as Buffer).length;
        }
        response.end("taken");
      }),
    },
  ]);
  const client = new RawClient(api.socket);
  t.after(() => client.close());
  const length = 64 * 1024 ** 2;
  client.send(`PUT /upload HTTP/1.1\r\nHost: d\r\nContent-Length: ${length}\r\n\r\n`);
  client.send(Buffer.alloc(length));
  await until(() => client.socket.writableLength > 0 || undefined);
  for (let before = -1; before !== client.socket.writableLength; ) {
    before = client.socket.writableLength;
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.ok(client.socket.writableLength > length / 2, `${client.socket.writableLength} bytes are left`);
  go.resolve();
  await until(() => client.bytes.toString().endsWith("taken") || undefined);
  assert.equal(bytes, length);
});

test("an upload is followed by a request, whenever its body was read", async (t) => {
  const readers = { early: 0, late: 0 };
  const api = await serveApi(t, () => {}, [
    ...(["early", "late"] as const).map((when) => ({
      ...route("PUT", `/${when}`, async ({ request, response }) => {
        if (when === "late") {
          await until(
            () => request.complete || request.readableLength >= request.readableHighWaterMark || undefined,
          );
        }
        for await (const chunk of request) {
          readers[when] += (chunk as Buffer).length;
        }
        response.end("<put>");
      }),
      kind: "transfer" as const,
    })),
    route("GET", "/fine", async ({ response }) => void response.end("<fine>")),
  ]);
  for (const when of ["early", "late"] as const) {
    for (const length of [1, 1000, 60_000, 70_000, 200_000, 1_000_000]) {
      const client = new RawClient(api.socket);
      t.after(() => client.close());
      const answered = (answer: string): Promise<unknown> =>
        until(() => client.bytes.toString().endsWith(answer) || undefined);
      readers[when] = 0;
      client.send(`PUT /${when} HTTP/1.1\r\nHost: d\r\nContent-Length: ${length}\r\n\r\n`);
      await new Promise((resolve) => setImmediate(resolve)); // The header comes alone.
      client.send(Buffer.alloc(length));
      await answered("<put>");
      client.send(requestTo("/fine"));
      await answered("<fine>");
      assert.equal(readers[when], length);
    }
  }
});

test("requests in one packet with the end of an upload are begun one after another", async (t) => {
  const begun = { count: 0 };
  const api = await serveApi(t, () => {}, [uploadRoute("/upload", begun)]);
  const client = new RawClient(api.socket);
  t.after(() => client.close());
  client.send(uploadHead("/upload"));
  await until(() => begun.count === 1 || undefined);
  client.send(`${(8).toString(16)}\r\n12345678\r\n`);
  await new Promise((resolve) => setImmediate(resolve));
  client.send(`0\r\n\r\n${requestTo("/upload").replace("GET", "PUT").repeat(100)}`);
  await until(() => begun.count === 101 || undefined);
  await until(() => client.bytes.toString().match(/<0>/g)?.length === 100 || undefined);
  assert.match(client.bytes.toString(), /<8>/);
});

test("an upload that came while its connection was held comes whole", async (t) => {
  const slow = Promise.withResolvers<void>();
  const held = Promise.withResolvers<IncomingMessage["socket"]>();
  const api = await serveApi(t, () => {}, [
    uploadRoute("/upload", { count: 0 }),
    route("GET", "/slow", async ({ request, response }) => {
      held.resolve(request.socket);
      await slow.promise;
      response.end("slow");
    }),
  ]);
  const client = new RawClient(api.socket);
  t.after(() => client.close());
  client.send(requestTo("/slow"));
  const socket = await held.promise;
  const length = 8 * 1024 ** 2;
  const head = `PUT /upload HTTP/1.1\r\nHost: d\r\nContent-Length: ${length}\r\n\r\n`;
  client.send(head);
  await until(() => socket.readableLength === head.length || undefined);
  client.send(Buffer.alloc(length));
  await until(() => socket.readableLength > head.length || undefined);
  slow.resolve();
  await until(() => client.bytes.toString().endsWith(`<${length}>`) || undefined);
});

test("unfinished headers take no more than their room together, and a header that ends is served beside them", async (t) => {
  const api = await serveApi(t, () => {}, [
    route("GET", "/fine", async ({ response }) => void response.end("fine")),
  ]);
  const mebibyte = `GET /fine HTTP/1.1\r\nHost: d\r\nX-Long: ${"a".repeat(1_000_000)}`;
  const flood = Array.from({ length: 100 }, () => new RawClient(api.socket).send(mebibyte));
  const isCut = ({ ended, closed }: RawClient): boolean => ended || closed;
  const short = new RawClient(api.socket).send("GET /fine HTTP/1.1\r\nHost: d\r\nX-Short: ");
  t.after(() => [short, ...flood].map((client) => client.close()));
  await until(() => flood.filter(isCut).length >= flood.length - 67 || undefined);
  const last = new RawClient(api.socket);
  t.after(() => last.close());
  for (const client of [last.send(mebibyte), short]) {
    client.send("\r\n\r\n");
    assert.match(await client.answered(), /^HTTP\/1\.1 200 /);
  }
  assert.equal(flood.filter(isCut).length, flood.length - 66);
});

test("unfinished trailers have the same room, also behind an answer", async (t) => {
  const api = await serveApi(t, () => {}, [
    route("PUT", "/fine", async ({ request, response }) => {
      request.resume();
      await once(request, "end");
      response.end("fine");
    }),
  ]);
  const chunked = "Host: d\r\nTransfer-Encoding: chunked\r\n\r\n";
  const trailer = `0\r\nX-Long: ${"a".repeat(1_000_000)}`;
  const flood = Array.from({ length: 100 }, (_, n) =>
    new RawClient(api.socket).send(`PUT ${n % 2 === 0 ? "/fine" : "/none"} HTTP/1.1\r\n${chunked}${trailer}`),
  );
  t.after(() => flood.map((client) => client.close()));
  const isCut = ({ ended, closed }: RawClient): boolean => ended || closed;
  await until(() => flood.filter(isCut).length >= flood.length - 70 || undefined);
  const whole = new RawClient(api.socket).send(
    `PUT /fine HTTP/1.1\r\n${chunked}1\r\na\r\n0\r\nX-A: b\r\n\r\n`,
  );
  t.after(() => whole.close());
  assert.match(await whole.answered(), /^HTTP\/1\.1 200 /);
});

/** A chunked body of blanks in the smallest chunks, without its end. */
const smallestChunks = (count: number): string => "1\r\n \r\n".repeat(count);

test("a connection that stays does not keep the bytes that were read of it", async () => {
  const collect = garbageCollection();
  const parser = { onIncoming: (): undefined => undefined };
  const socket = Object.assign(new Socket(), { parser });
  socket.on("data", () => {});
  new RequestPace(socket, () => false, new LongHeaders(2 ** 26, () => {}));
  const sent = (): WeakRef<ArrayBufferLike> => {
    const bytes = Buffer.alloc(64 * 1024, requestTo("/fine"));
    socket.emit("data", bytes);
    return new WeakRef(bytes.buffer);
  };
  const kept = sent();
  await untilTrue(() => {
    collect();
    return kept.deref() === undefined;
  });
  socket.destroy();
});

test("a connection that stays does not keep the request that was answered", async (t) => {
  const collect = garbageCollection();
  const requests: WeakRef<IncomingMessage>[] = [];
  const api = await serveApi(t, () => {}, [
    route("GET", "/fine", async ({ request, response }) => {
      requests.push(new WeakRef(request));
      response.end("fine");
    }),
  ]);
  const client = new RawClient(api.socket);
  t.after(() => client.close());
  client.send(requestTo("/fine"));
  await until(() => client.bytes.toString().endsWith("fine") || undefined);
  await untilTrue(() => {
    collect();
    return requests.length === 1 && requests[0]?.deref() === undefined;
  });
  client.send(requestTo("/fine"));
  await until(() => requests.length === 2 || undefined);
});

test("content that comes in chunks of a byte is handed on in few pieces", async (t) => {
  let pieces = 0;
  const api = await serveApi(t, () => {}, [
    route("PUT", "/upload", async ({ request, response }) => {
      let bytes = 0;
      for await (const chunk of request) {
        pieces += 1;
        bytes += (chunk as Buffer).length;
      }
      response.end(`<${bytes}>`);
    }),
  ]);
  const client = new RawClient(api.socket);
  t.after(() => client.close());
  client.send(uploadHead("/upload")).send(`${smallestChunks(50_000)}0\r\n\r\n`);
  await until(() => client.bytes.toString().endsWith("<50000>") || undefined);
  assert.ok(pieces < 1000, `${pieces} pieces`);
});

test("of a header that is refused no more is parsed", async () => {
  let parsed = 0;
  const parser = { onIncoming: (): undefined => undefined };
  const socket = Object.assign(new Socket(), { parser });
  socket.on("data", (bytes: Buffer) => {
    parsed += bytes.length;
    socket.destroy(); // As by Node, which counts fields.
  });
  new RequestPace(socket, () => false, new LongHeaders(2 ** 26, () => {}));
  socket.emit("data", Buffer.from(`GET / HTTP/1.1\r\n${"a:\r\n".repeat(16_000)}`));
  await until(() => parsed > 0 || undefined);
  await nextTurn();
  assert.ok(parsed <= 16_384, `${parsed} bytes`);
});

test("a body in an ordinary chunk waits for none of those in chunks of a byte, however many these are", async (t) => {
  let bytes = 0;
  const api = await serveApi(t, () => {}, [
    route("PUT", "/count", async ({ request, response }) => {
      for await (const chunk of request) {
        bytes += (chunk as Buffer).length;
      }
      response.end();
    }),
    route("PUT", "/fine", async ({ request, response }) => {
      request.resume();
      await once(request, "end");
      response.end(`<${bytes - before}>`);
    }),
  ]);
  const crowd = Array.from({ length: 100 }, () => new RawClient(api.socket));
  const client = new RawClient(api.socket);
  t.after(() => [...crowd, client].map((each) => each.close()));
  for (const each of crowd) {
    each.send(uploadHead("/count")).send(smallestChunks(4_000));
  }
  await until(() => bytes > 60_000 || undefined);
  const before = bytes;
  client.send(`${uploadHead("/fine")}64\r\n${"a".repeat(100)}\r\n0\r\n\r\n`);
  await until(() => client.bytes.toString().endsWith(">") || undefined);
  crowd.map((each) => each.close());
  const meanwhile = Number(/<(\d+)>/.exec(client.bytes.toString())?.[1]);
  assert.ok(meanwhile < 60_000, `${meanwhile} bytes`);
});

/** A connection in the middle of a chunked body, of which a fake of Node's parser counts what it is given. */
function bodyUnderWay(
  isDropped: boolean,
  chunkBytes = 6,
): { readonly socket: Socket; readonly parsed: () => number } {
  const parser = {
    onIncoming: (_: IncomingMessage): undefined => {
      const response = new ServerResponse(request);
      pace.began(Object.defineProperty(response, "writableFinished", { value: isDropped }));
    },
  };
  const socket = Object.assign(new Socket(), { parser });
  const request = new IncomingMessage(socket);
  request.headers = { "transfer-encoding": "chunked" };
  let parsed = 0;
  socket.on("data", (bytes: Buffer) => {
    if (bytes.includes("PUT")) {
      parser.onIncoming(request);
      return;
    }
    parsed += bytes.length;
    for (let n = 0; n < bytes.length && !isDropped; n += chunkBytes) {
      request.push(Buffer.from(" "));
    }
  });
  const pace = new RequestPace(socket, () => false, new LongHeaders(2 ** 26, () => {}));
  socket.emit("data", Buffer.from(uploadHead("/upload")));
  return { socket, parsed: () => parsed };
}

test("of a body in chunks of a byte little is parsed in a turn of the event loop, be it read or dropped", async () => {
  for (const isDropped of [false, true]) {
    const { socket, parsed } = bodyUnderWay(isDropped);
    const body = Buffer.from(smallestChunks(10_000));
    socket.emit("data", body);
    assert.ok(parsed() <= 12_000, `${parsed()} bytes in a turn`);
    await until(() => parsed() === body.length || undefined);
    socket.destroy();
  }
});

test("bodies in large chunks are parsed in few turns, however many wait for one", async () => {
  await nextTurn(); // One that no other test has parsed bodies in.
  const bodies = Array.from({ length: 32 }, () => bodyUnderWay(false, 4096));
  const whole = Buffer.alloc(15 * 4096);
  for (const { socket } of bodies) {
    socket.emit("data", whole);
  }
  let turns = 0;
  for (; bodies.some(({ parsed }) => parsed() < whole.length); turns += 1) {
    await nextTurn();
  }
  assert.ok(turns <= 5, `${turns} turns`);
  bodies.map(({ socket }) => socket.destroy());
});

test("of a connection that was closed amid a body nothing more is parsed", async () => {
  const { socket, parsed } = bodyUnderWay(false);
  socket.emit("data", Buffer.from(smallestChunks(10_000)));
  const before = parsed();
  socket.destroy();
  for (let turn = 0; turn < 5; turn++) {
    await nextTurn();
  }
  assert.equal(parsed(), before);
});

test("a header counts until its body has ended, also after its answer, and no longer, until the connection's next one does", async () => {
  const longHeaders = new LongHeaders(800_000, () => {}); // One header has an eighth of what is free.
  const requestOf = (characters: number, socket: Socket): IncomingMessage =>
    Object.assign(new IncomingMessage(socket), { url: "/".repeat(characters) });
  const hold = (characters: number): void => longHeaders.hold(requestOf(characters, new Socket()));
  const responses: ServerResponse[] = [];
  const parser = {
    onIncoming(request: IncomingMessage): unknown {
      const response = new ServerResponse(request);
      responses.push(response);
      return pace.began(response);
    },
  };
  const socket: Socket = Object.assign(new Socket(), { parser });
  const first = requestOf(2_000, socket);
  socket.on("data", () => {
    first.complete = true;
  });
  const mayHijack = (request: IncomingMessage): boolean => {
    longHeaders.hold(request);
    return false;
  };
  const pace: RequestPace = new RequestPace(socket, mayHijack, longHeaders);
  parser.onIncoming(first);
  const [response] = responses;
  response?.destroy();
  await once(response ?? assert.fail(), "close");
  await nextTurn();
  assert.throws(() => hold(7_600), /long headers of requests/);
  socket.emit("data", Buffer.from("the end of its body"));
  const other = new Socket();
  longHeaders.hold(requestOf(7_600, other));
  longHeaders.forget(other);
  parser.onIncoming(requestOf(4_000, socket));
  assert.throws(() => hold(7_300), /long headers of requests/);
});

test("line ends without a request are not parsed", () => {
  let parsed = 0;
  const socket = Object.assign(new Socket(), { parser: { onIncoming: () => undefined } });
  socket.on("data", () => {
    parsed += 1;
  });
  new RequestPace(socket, () => false, new LongHeaders(2 ** 26, () => {}));
  socket.emit("data", Buffer.from("\r\n".repeat(50_000)));
  assert.equal(parsed, 0);
  socket.emit("data", Buffer.from(`\r\n${requestTo("/fine")}`));
  assert.equal(parsed, 1);
});

test("a request that waits for its turn begins, also behind a body that was not read", async () => {
  await nextTurn(); // One that no other test has begun requests in.
  let parsed = 0;
  const paceOf = (onIncoming: (request: IncomingMessage) => unknown): [Socket, RequestPace] => {
    const socket = Object.assign(new Socket(), { parser: { onIncoming } });
    socket.on("data", () => {
      parsed += 1;
    });
    return [socket, new RequestPace(socket, () => false, new LongHeaders(2 ** 26, () => {}))];
  };
  const [socket, pace]: [Socket, RequestPace] = paceOf(() => pace.began(answer));
  const request = new IncomingMessage(socket);
  const answer = new ServerResponse(request);
  request.push(Buffer.alloc(100_000));
  request.complete = true;
  (socket as Socket & { parser: { onIncoming(request: IncomingMessage): void } }).parser.onIncoming(request);
  for (let n = 0; n < 16; n += 1) {
    paceOf(() => undefined)[0].emit("data", Buffer.from(requestTo("/fine")));
  }
  assert.equal(parsed, 16);
  answer.destroy();
  await once(answer, "close");
  socket.emit("data", Buffer.from(requestTo("/fine")));
  assert.equal(parsed, 16);
  await until(() => parsed === 17 || undefined);
});
