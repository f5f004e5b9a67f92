import assert from "node:assert/strict";
import { connect } from "node:net";
import { test, type TestContext } from "node:test";

import fc from "fast-check";

import { serveApi } from "../../../test/support/docker-api.ts";
import { HijackedConnection } from "../hijack.ts";
import { replyEmpty } from "./reply.ts";
import type { Route } from "../router.ts";

/** The body of a hijacked request as the server took it, and the bytes behind it. */
interface Taken {
  readonly body: unknown;
  rest: string;
}

/** A server that remembers what it took, and says `bye` at the end of it. */
async function serve(t: TestContext) {
  const taken: Taken[] = [];
  const slow = { begun: Promise.withResolvers<void>(), end: Promise.withResolvers<void>() };
  const routes: readonly Route[] = [
    {
      method: "POST",
      path: "/raw",
      answeredBy: "frontend",
      hijack: true,
      handler: async (context) => {
        const connection = new HijackedConnection(context);
        const one: Taken = { body: connection.readJson(), rest: "" };
        taken.push(one);
        const socket = connection.accept(false);
        for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
          one.rest += (chunk as Buffer).toString("latin1");
        }
        socket.end("bye");
      },
    },
    {
      method: "GET",
      path: "/slow",
      answeredBy: "frontend",
      handler: async ({ response }) => {
        slow.begun.resolve();
        await slow.end.promise;
        replyEmpty(response, 204);
      },
    },
  ];
  const { socket: path } = await serveApi(t, () => {}, routes);

  /** Sends packets and then the end; answers all that came back. */
  const exchange = async (...packets: readonly string[]): Promise<string> => {
    const client = connect({ path, allowHalfOpen: true });
    client.on("error", () => {}); // refused before all was sent
    for (const packet of packets) {
      client.write(packet, "latin1");
      await new Promise((resolve) => setImmediate(resolve));
    }
    client.end();
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of client) {
        chunks.push(chunk as Buffer);
      }
    } catch {
      // Bytes that came before the reset count.
    }
    return Buffer.concat(chunks).toString("latin1");
  };
  return { taken, exchange, slow };
}

const inAnyCase = (text: string) =>
  fc
    .array(fc.boolean(), { minLength: text.length, maxLength: text.length })
    .map((upper) =>
      [...text].map((char, n) => (upper[n] ? char.toUpperCase() : char.toLowerCase())).join(""),
    );

const line = (name: string, value: string | fc.Arbitrary<string>) =>
  fc
    .tuple(
      inAnyCase(name),
      typeof value === "string" ? fc.constant(value) : value,
      fc.constantFrom("", " ", "\t", "  "),
    )
    .map(([key, text, space]) => `${key}:${space}${text}${space}`);

const token = fc.oneof(fc.constantFrom("keep-alive", "close", "HTTP2-Settings", "x-y"), inAnyCase("upgrade"));
const separator = fc.constantFrom(",", ", ", " ,", ",,", " , ");

/** Headers that say nothing of the body, whatever a client makes of upgrading. */
const otherHeaders = fc.array(
  fc.oneof(
    fc
      .tuple(fc.array(token, { minLength: 1, maxLength: 4 }), separator)
      .chain(([tokens, between]) => line("connection", tokens.join(between))),
    line("upgrade", fc.constantFrom("tcp", "TCP", "websocket", "h2c", "tcp, h2c")),
    line("x-registry-auth", fc.constantFrom("e30=", "", "=".repeat(3000))),
    line("user-agent", "Docker-Client/28.2.2 (linux)"),
    line("te", "trailers"),
    line("expect", fc.constantFrom("100-continue", "nothing")),
  ),
  { maxLength: 5 },
);

/** Bytes that a process may be sent, some of which look like HTTP. */
const bytesBehind = fc.oneof(
  fc.string({
    unit: fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code)),
    maxLength: 40,
  }),
  fc.constantFrom(
    "GET /slow HTTP/1.1\r\nHost: d\r\n\r\n",
    "POST /raw HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n",
    "0\r\n\r\n",
    "\r\n\r\n",
    "HTTP/1.1 200 OK\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
  ),
);

const bodies = fc.dictionary(fc.string(), fc.oneof(fc.string(), fc.boolean(), fc.constant(null)), {
  maxKeys: 3,
});

/** Chunks of a body, with the extensions and trailers that HTTP allows. */
const chunked = (bytes: string) =>
  fc
    .tuple(
      fc.array(fc.integer({ min: 1, max: 9 }), { maxLength: 12 }),
      fc.constantFrom("", ";a=b", " ;x"),
      fc.constantFrom("", "Trailer: x\r\n", "A: b\r\nC: d\r\n"),
    )
    .map(([sizes, extension, trailers]) => {
      let rest = bytes;
      let text = "";
      for (const size of [...sizes, rest.length]) {
        const part = rest.slice(0, size);
        rest = rest.slice(size);
        if (part !== "") {
          text += `${part.length.toString(16)}${extension}\r\n${part}\r\n`;
        }
      }
      return `${text}0\r\n${trailers}\r\n`;
    });

/** A request to hijack as HTTP allows it, its body, and what comes behind it. */
const request = fc
  .tuple(otherHeaders, bodies, bytesBehind, fc.boolean())
  .chain(([headers, body, rest, isChunked]) => {
    const bytes = Buffer.from(JSON.stringify(body)).toString("latin1");
    const framing = isChunked
      ? fc.tuple(line("transfer-encoding", inAnyCase("chunked")), chunked(bytes))
      : fc.tuple(line("content-length", String(bytes.length)), fc.constant(bytes));
    const lineEnd = fc.constantFrom("\r\n", "\n"); // Go's server takes both, and Jenkins' docker plugin sends the second.
    return fc
      .tuple(framing, line("content-type", "application/json"), line("host", "docker"), fc.nat(), lineEnd)
      .map(([[length, framed], type, host, order, end]) => {
        const fields = [...headers];
        for (const field of [length, type, host]) {
          fields.splice(order % (fields.length + 1), 0, field);
        }
        return { head: ["POST /raw HTTP/1.1", ...fields, "", ""].join(end), framed, rest, body };
      });
  });

/** Cuts a text in packets. */
function packetsOf(text: string, cuts: readonly number[]): string[] {
  const places = [0, ...cuts.map((cut) => cut % (text.length + 1)), text.length].sort((a, b) => a - b);
  return places.slice(1).map((end, n) => text.slice(places[n], end));
}

test("whatever the headers and packets, a body is the body and what follows it is what follows it", async (t) => {
  const { taken, exchange } = await serve(t);
  await fc.assert(
    fc.asyncProperty(request, fc.array(fc.nat(), { maxLength: 6 }), async (sent, cuts) => {
      const before = taken.length;
      const answer = await exchange(...packetsOf(sent.head + sent.framed + sent.rest, cuts));
      const upgrades = /^upgrade:/im.test(sent.head);
      const continues = /^expect:\s*100-continue/im.test(sent.head);
      const expected = upgrades ? /^HTTP\/1\.1 101 UPGRADED\r\n/ : /^HTTP\/1\.1 200 OK\r\n/;
      assert.match(continues ? answer.replace(/^HTTP\/1\.1 100 Continue\r\n\r\n/, "") : answer, expected);
      assert.ok(answer.endsWith("\r\n\r\nbye"));
      assert.equal(taken.length, before + 1, "nothing behind the request is another request");
      assert.deepEqual(taken.at(-1), {
        body: JSON.parse(JSON.stringify(sent.body)) as unknown,
        rest: sent.rest,
      });
    }),
    { numRuns: 400 },
  );
});

test("what is not quite HTTP is refused, and no byte of it reaches a process", async (t) => {
  const { taken, exchange } = await serve(t);
  const post = (...fields: string[]) =>
    `POST /raw HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n${fields.join("\r\n")}\r\n\r\n`;
  const refused: readonly (readonly [string, string, number])[] = [
    ["a list that is folded", `${post("Connection: keep-alive,\r\n Upgrade", "Content-Length: 2")}{}`, 400],
    ["two lengths", `${post("Content-Length: 2", "Content-Length: 2")}{}`, 400],
    ["two lengths that differ", `${post("Content-Length: 2", "Content-Length: 7")}{}stdin`, 400],
    ["a list of lengths", `${post("Content-Length: 2, 2")}{}`, 400],
    ["a negative length", `${post("Content-Length: -2")}{}`, 400],
    ["a length in hexadecimal digits", `${post("Content-Length: 0x2")}{}`, 400],
    ["a length that is too long", `${post("Content-Length: 200")}{}`, 400],
    ["a length that is too short", `${post("Content-Length: 1")}{}`, 400],
    ["a length beyond every number", `${post(`Content-Length: ${"9".repeat(40)}`)}{}`, 400],
    [
      "a length and chunks",
      `${post("Content-Length: 2", "Transfer-Encoding: chunked")}2\r\n{}\r\n0\r\n\r\n`,
      400,
    ],
    ["a coding that is not known", `${post("Transfer-Encoding: identity")}{}`, 400],
    ["two codings", `${post("Transfer-Encoding: gzip, chunked")}2\r\n{}\r\n0\r\n\r\n`, 501],
    ["chunks that do not end", `${post("Transfer-Encoding: chunked")}2\r\n{}\r\n`, 400],
    ["chunks of another size", `${post("Transfer-Encoding: chunked")}1\r\n{}\r\n0\r\n\r\n`, 400],
    ["chunks without a size", `${post("Transfer-Encoding: chunked")}\r\n{}\r\n0\r\n\r\n`, 400],
    ["a size that is negative", `${post("Transfer-Encoding: chunked")}-2\r\n{}\r\n0\r\n\r\n`, 400],
    ["a blank before a colon", `${post("Content-Length : 2")}{}`, 400],
    ["a line feed in a header", `${post("Upgrade: t\nContent-Length: 2")}{}`, 400],
    ["a NUL in a header", `${post("Upgrade: t\0cp", "Content-Length: 2")}{}`, 400],
    ["two bodies", `${post("Content-Length: 4")}{}{}`, 400],
    [
      "another type",
      "POST /raw HTTP/1.1\r\nHost: d\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}",
      400,
    ],
  ];
  for (const [what, text, status] of refused) {
    const answer = await exchange(text);
    assert.match(answer, new RegExp(`^HTTP/1\\.1 ${status} `), what);
    assert.deepEqual(taken, [], what);
  }
});

test("arbitrary bytes are refused or wait for more, and the server goes on", async (t) => {
  const { taken, exchange, slow } = await serve(t);
  slow.end.resolve(); // Some of them ask for it, once in hundreds of runs.
  const pieces = fc.constantFrom(
    ..."POST /raw HTTP/1.1|\r\n|\n|\r\n\r\n|Content-Length: 2|Content-Length:|Transfer-Encoding: chunked|Upgrade: tcp".split(
      "|",
    ),
    ...[
      "Connection: Upgrade",
      "Host: d",
      "{}",
      "2\r\n{}\r\n",
      "0\r\n\r\n",
      ":",
      " ",
      "\0",
      "\xff",
      "GET /slow HTTP/1.1",
    ],
  );
  await fc.assert(
    fc.asyncProperty(fc.array(pieces, { maxLength: 14 }), async (parts) => {
      const answer = await exchange(parts.join(""));
      // Every answer is whole, and says of itself what it is.
      assert.match(answer, /^$|^HTTP\/1\.1 \d{3} /);
      for (const { body } of taken.splice(0)) {
        assert.ok(body === undefined || JSON.stringify(body) === "{}", JSON.stringify(body));
      }
    }),
    { numRuns: 300, examples: [[["GET /slow HTTP/1.1", "\r\n", "Host: d", "\r\n\r\n"]]] },
  );
  assert.match(await exchange("POST /raw HTTP/1.1\r\nHost: d\r\n\r\nfine"), /bye$/);
  assert.deepEqual(taken, [{ body: undefined, rest: "fine" }]);
});

test("a request whose lines end with a line feed alone is read, and so is the one behind it", async (t) => {
  const { taken, exchange } = await serve(t);
  const first = "GET /nothing HTTP/1.1\nHost: d\n\r\n";
  const second = "POST /raw HTTP/1.1\r\nHost: d\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n";
  const answer = await exchange(`${first}${second}stdin\n`);
  assert.match(answer, /^HTTP\/1\.1 404 Not Found\r\n[\s\S]*HTTP\/1\.1 101 UPGRADED\r\n[\s\S]*bye$/);
  assert.deepEqual(taken, [{ body: undefined, rest: "stdin\n" }]);
});

test("a header whose lines end with a line feed alone may come in any pieces, but not without end", async (t) => {
  const { exchange } = await serve(t);
  const header = "GET /nothing HTTP/1.1\nHost: d\r\nA: b\n\n";
  for (let cut = 1; cut < header.length; cut += 1) {
    const answer = await exchange(header.slice(0, cut), header.slice(cut));
    assert.match(answer, /^HTTP\/1\.1 404 Not Found\r\n/, JSON.stringify(header.slice(0, cut)));
  }
  const long = `GET /nothing HTTP/1.1\nHost: d\nA: ${"a".repeat(16 * 1024)}\n\n`;
  assert.match(await exchange(long), /^HTTP\/1\.1 400 /);
});

test("a line feed alone stays an error in a header whose request line ends whole, however long that is", async (t) => {
  const { exchange } = await serve(t);
  const header = `GET /nothing?${"a".repeat(17_000)} HTTP/1.1\r\nHost: d\r\nX: a`;
  assert.match(await exchange(header, "\nTransfer-Encoding: chunked\r\n\r\n"), /^HTTP\/1\.1 400 /);
});

test("a hijack behind a request that is not answered yet waits until that was answered", async (t) => {
  const { taken, exchange, slow } = await serve(t);
  const answered = exchange(
    "GET /slow HTTP/1.1\r\nHost: d\r\n\r\nPOST /raw HTTP/1.1\r\nHost: d\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\nstdin",
  );
  await slow.begun.promise;
  slow.end.resolve();
  assert.match(
    await answered,
    /^HTTP\/1\.1 204 No Content\r\n[\s\S]*\r\n\r\nHTTP\/1\.1 101 UPGRADED\r\n[\s\S]*bye$/,
  );
  assert.deepEqual(taken, [{ body: undefined, rest: "stdin" }]);
});

test("a hijack behind requests that were answered is as good as any", async (t) => {
  const { taken, exchange } = await serve(t);
  const answer = await exchange(
    "GET /nothing HTTP/1.1\r\nHost: d\r\n\r\nPOST /raw HTTP/1.1\r\nHost: d\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\nstdin",
  );
  assert.match(answer, /^HTTP\/1\.1 404 Not Found\r\n[\s\S]*HTTP\/1\.1 101 UPGRADED\r\n[\s\S]*bye$/);
  assert.deepEqual(taken, [{ body: undefined, rest: "stdin" }]);
});
