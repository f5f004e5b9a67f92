import assert from "node:assert/strict";
import { once } from "node:events";
import {
  type ClientHttp2Stream,
  connect,
  constants,
  createServer,
  type Http2Stream,
  type IncomingHttpHeaders,
  type ServerHttp2Stream,
} from "node:http2";
import { connect as connectSocket, createServer as createSocketServer } from "node:net";
import { join } from "node:path";
import { Duplex } from "node:stream";
import { buffer, text } from "node:stream/consumers";
import { describe, it, test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";

import { Code, ConnectError } from "@connectrpc/connect";

import { listenHere } from "../../../test/support/listen-here.ts";
import { until } from "../../../test/support/until.ts";
import { type AgentTarget, containerIdHeader, datagramsHeader } from "../../agent-client/address.ts";
import type { AgentConnection } from "../../agent-client/connection.ts";
import { ConnectionPool } from "../../agent-client/connection-pool.ts";
import { ByteBudget } from "../../common/byte-budget.ts";
import { track } from "./connections.ts";
import { forwardCall, relayAgentCall, relayedPrefix, relayedWindows } from "./relay.ts";
import { scratchDirectory } from "../../../test/support/scratch.ts";

/** A socket to a port, as a link is one: no handle of its own, and bytes that come at once are told of at once. */
function linkTo(port: number): Duplex {
  const socket = connectSocket(port, "127.0.0.1");
  let chunks: Buffer[] = [];
  const link = new Duplex({
    read() {},
    write: (chunk: Buffer, _encoding, done) => void socket.write(chunk, () => done()),
    final: (done) => void socket.end(() => done()),
  });
  socket.on("data", (chunk: Buffer) => {
    chunks.push(chunk);
    setTimeout(() => {
      const whole = Buffer.concat(chunks);
      chunks = [];
      if (whole.length > 0) {
        link.push(whole);
      }
    }, 20);
  });
  socket.on("close", () => link.destroy());
  link.on("close", () => socket.destroy());
  return link;
}

/** A call of an agent through a relay. */
async function callThrough(
  agents: ConnectionPool,
  resources: AsyncDisposableStack,
  agent: AgentTarget = { credentials: undefined } as never,
): Promise<ClientHttp2Stream> {
  const backend = createServer((request, response) => {
    void relayAgentCall(request, response, async () => agent, agents);
  });
  resources.defer(() => void backend.close());
  const caller = connect(`http://127.0.0.1:${await listenHere(backend)}`);
  resources.defer(() => caller.destroy());
  const call = caller.request({
    ":method": "POST",
    ":path": `${relayedPrefix}Hello`,
    [containerIdHeader]: "0".repeat(64),
  });
  call.end();
  return call;
}

test("an answer whose bytes come with its header is forwarded, and its trailers", async () => {
  await using resources = new AsyncDisposableStack();
  const agent = createServer();
  agent.on("stream", (stream: ServerHttp2Stream) => {
    stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
    stream.end("answered");
  });
  resources.defer(() => void agent.close());
  const agentPort = await listenHere(agent);
  const link = connect("http://agent", { createConnection: () => linkTo(agentPort) });
  resources.defer(() => link.destroy());
  const agents = {
    connectionTo: () =>
      ({
        request: async (method, path, headers) =>
          link.request({ ...headers, ":method": method, ":path": path }),
        notifyRead: () => {},
      }) as Pick<AgentConnection, "request" | "notifyRead">,
  } as unknown as ConnectionPool;
  const call = await callThrough(agents, resources);
  const trailers = once(call, "trailers") as Promise<[IncomingHttpHeaders]>;
  assert.equal(await text(call), "answered");
  const [{ "grpc-status": status }] = await trailers;
  assert.equal(status, "0");
});

test("an answer that is cut ends with the reason for which its connection did not go on", async () => {
  await using resources = new AsyncDisposableStack();
  const agent = createServer();
  agent.on("stream", (stream: ServerHttp2Stream) => {
    stream.respond({ ":status": 200, "content-type": "application/grpc" });
    stream.write("half");
  });
  resources.defer(() => void agent.close());
  const way = linkTo(await listenHere(agent));
  const link = connect("http://agent", { createConnection: () => way });
  link.on("error", () => {});
  resources.defer(() => link.destroy());
  const reason = "the connection to the agent was cut: the agent is gone";
  const agents = {
    connectionTo: () =>
      ({
        request: async (method, path, headers) =>
          link.request({ ...headers, ":method": method, ":path": path }),
        notifyRead: () => {},
        failureOf: () => (way.errored === null ? undefined : new ConnectError(reason, Code.Unavailable)),
      }) as Pick<AgentConnection, "request" | "failureOf" | "notifyRead">,
  } as unknown as ConnectionPool;
  const call = await callThrough(agents, resources);
  call.once("data", () => way.destroy(new Error(reason)));
  const [{ "grpc-status": status, "grpc-message": message }] = (await once(call, "trailers")) as [
    IncomingHttpHeaders,
  ];
  assert.equal(status, String(Code.Unavailable));
  assert.equal(decodeURIComponent(String(message)), reason);
});

test("tunnels of datagrams share a connection to their agent, and no others do", async () => {
  await using resources = new AsyncDisposableStack();
  const path = join(scratchDirectory(), "agent.sock");
  const calls: ServerHttp2Stream[] = [];
  const agent = createServer().on("stream", (stream: ServerHttp2Stream) => {
    calls.push(stream.on("error", () => {}).resume());
  });
  agent.listen(path);
  await once(agent, "listening");
  resources.defer(() => void agent.close());
  const agents = new ConnectionPool(new ByteBudget(0));
  resources.defer(() => agents.close());
  const target: AgentTarget = { address: { kind: "unix", path } };
  const backend = createServer((request, response) => {
    void relayAgentCall(request, response, async () => target, agents);
  });
  resources.defer(() => void backend.close());
  const caller = connect(`http://127.0.0.1:${await listenHere(backend)}`);
  resources.defer(() => caller.destroy());
  const connectionsOf = async (headers: IncomingHttpHeaders): Promise<number> => {
    const before = calls.length;
    for (let count = 0; count < 3; count++) {
      const tunnel = { ":method": "POST", ":path": `${relayedPrefix}Tunnel`, ...headers };
      caller.request({ ...tunnel, [containerIdHeader]: "0".repeat(64) }).on("error", () => {});
    }
    await until(() => calls.length === before + 3 || undefined);
    return new Set(calls.slice(before).map(({ session }) => session)).size;
  };
  assert.equal(await connectionsOf({ [datagramsHeader]: "1" }), 1);
  assert.equal(await connectionsOf({}), 3);
  assert.equal(new Set(calls.map(({ session }) => session)).size, 4);
});

test("a call whose caller has left ends at an agent that does not read it, and with it their connection", async () => {
  await using resources = new AsyncDisposableStack();
  const path = join(scratchDirectory(), "deaf.sock");
  const agent = createSocketServer((socket) => {
    resources.defer(() => void socket.destroy());
    // Windows of 2 GiB, of which nothing is read.
    const settings = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff];
    socket.on("error", () => {}).write(Buffer.from([...settings, 0, 0, 4, 8, 0, 0, 0, 0, 0, 0x7f, 0, 0, 0]));
  });
  resources.defer(() => void agent.close());
  await once(agent.listen(path), "listening");
  const agents = new ConnectionPool(new ByteBudget(relayedWindows));
  resources.defer(() => agents.close());
  const backend = createServer((request, response) => {
    void relayAgentCall(request, response, async () => ({ address: { kind: "unix", path } }), agents);
  });
  resources.defer(() => void backend.close());
  const caller = connect(`http://127.0.0.1:${await listenHere(backend)}`);
  resources.defer(() => caller.destroy());
  const call = caller.request({
    ":method": "POST",
    ":path": `${relayedPrefix}Tunnel`,
    [containerIdHeader]: "0".repeat(64),
  });
  call.on("error", () => {}).write(Buffer.alloc(8 * 1024 * 1024));
  await until(() => agents.size || undefined);
  let [sent, before] = [0, 0];
  await until(() => {
    [before, sent] = [sent, caller.socket?.bytesWritten ?? 0];
    return (sent > 256 * 1024 && sent === before) || undefined; // The agent's connection takes no more.
  });
  call.close(constants.NGHTTP2_CANCEL);
  await until(() => agents.size === 0 || undefined);
});

test("an agent may send 64 KiB of an answer ahead, and more of one that is read", async () => {
  await using resources = new AsyncDisposableStack();
  const directory = scratchDirectory();
  const path = join(directory, "agent.sock");
  const agent = createServer();
  const windows: number[] = [];
  agent.on("session", (session) => {
    session.on("remoteSettings", ({ initialWindowSize = 0 }) => windows.push(initialWindowSize));
  });
  agent.on("stream", (stream: ServerHttp2Stream) => {
    stream.on("error", () => {});
    stream.respond({ ":status": 200, "content-type": "application/grpc" });
    stream.write(Buffer.alloc(4 * 1024 * 1024));
  });
  agent.listen(path);
  await once(agent, "listening");
  resources.defer(() => void agent.close());
  const agents = new ConnectionPool(new ByteBudget(relayedWindows));
  resources.defer(() => agents.close());
  const call = await callThrough(agents, resources, { address: { kind: "unix", path } });
  call.on("error", () => {});
  await once(call, "response");
  assert.deepEqual(windows, [64 * 1024]);
  call.resume();
  await until(() => (windows.at(-1) ?? 0) >= 1024 * 1024 || undefined);
});

test("a call that is reset at once asks for no agent, and one that is reset later dials none", async () => {
  await using resources = new AsyncDisposableStack();
  const asked: string[] = [];
  const found = Promise.withResolvers<AgentTarget>();
  const resolveAgent = (containerId: string): Promise<AgentTarget> => {
    asked.push(containerId);
    return found.promise;
  };
  let connections = 0;
  const connectionTo = (): never => {
    connections += 1;
    assert.fail("nobody waits for it");
  };
  const ended: Promise<void>[] = [];
  const backend = createServer((request, response) => {
    ended.push(relayAgentCall(request, response, resolveAgent, { connectionTo } as never));
  });
  resources.defer(() => void backend.close());
  const caller = connect(`http://127.0.0.1:${await listenHere(backend)}`);
  resources.defer(() => caller.destroy());
  await once(caller, "connect");
  const call = (id: string): ClientHttp2Stream => {
    const path = `${relayedPrefix}Hello`;
    const stream = caller.request({ ":method": "POST", ":path": path, [containerIdHeader]: id.repeat(64) });
    return stream.on("error", () => {});
  };
  for (let reset = 0; reset < 50; reset++) {
    call("a").close(constants.NGHTTP2_CANCEL);
  }
  const last = call("b");
  await until(() => asked.includes("b".repeat(64)) || undefined);
  assert.deepEqual(asked, ["b".repeat(64)]);
  last.close(constants.NGHTTP2_CANCEL);
  await once(last, "close");
  await new Promise<void>((resolve) => caller.ping(() => resolve()));
  found.resolve({ address: { kind: "unix", path: "" } });
  await Promise.all(ended);
  assert.equal(connections, 0);
});

describe("an agent that was taken over by its container", () => {
  const frame = (type: number, flags: number, payload: Buffer = Buffer.alloc(0), id = 1): Buffer => {
    const head = Buffer.alloc(9);
    head.writeUIntBE(payload.length, 0, 3);
    head.set([type, flags, 0, 0, 0, id], 3);
    return Buffer.concat([head, payload]);
  };
  /** Literals of HPACK that are not indexed. */
  const block = (headers: Readonly<Record<string, string>>): Buffer =>
    Buffer.concat(
      Object.entries(headers).flatMap(([name, value]) => [
        Buffer.from([0, name.length]),
        Buffer.from(name),
        Buffer.from([value.length]),
        Buffer.from(value),
      ]),
    );
  const [dataFrame, headersFrame, resetFrame, settingsFrame] = [0, 1, 3, 4];
  const [endStream, endHeaders, ack] = [1, 4, 1];
  const longPart = Buffer.alloc(20_000, "x"); // Too long to be joined with the next.
  const header = (headers: Readonly<Record<string, string>>): Buffer =>
    frame(headersFrame, endHeaders, block(headers));
  const end = (headers: Readonly<Record<string, string>>): Buffer =>
    frame(headersFrame, endHeaders | endStream, block(headers));

  for (const [what, answer, expected, body = ""] of [
    [
      "a reset right behind its bytes, which are passed on",
      [
        header({ ":status": "200" }),
        frame(dataFrame, 0, longPart),
        frame(dataFrame, 0, longPart),
        frame(dataFrame, 0, longPart),
        frame(resetFrame, 0, Buffer.from([0, 0, 0, constants.NGHTTP2_INTERNAL_ERROR])),
      ],
      "14",
      `${longPart}${longPart}${longPart}`,
    ],
    ["a status that there is not", [header({ ":status": "600" })], "14"],
    ["such a status alone", [end({ ":status": "600" })], "14"],
    ["a header of HTTP/1's", [end({ ":status": "200", "grpc-status": "0", "http2-settings": "AA" })], "0"],
    [
      "a trailer of HTTP/1's",
      [header({ ":status": "200" }), end({ "grpc-status": "0", "http2-settings": "AA" })],
      "0",
    ],
  ] as const) {
    it(`does no harm by ${what}`, async () => {
      await using resources = new AsyncDisposableStack();
      const directory = scratchDirectory();
      const path = join(directory, "agent.sock");
      const agent = createSocketServer((socket) => {
        let received = Buffer.alloc(0);
        let start = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".length;
        socket.on("error", () => {});
        socket.write(frame(settingsFrame, 0, undefined, 0));
        socket.on("data", (chunk: Buffer) => {
          received = Buffer.concat([received, chunk]);
          while (received.length >= start + 9) {
            const next = start + 9 + received.readUIntBE(start, 3);
            if (received.length < next) {
              return;
            }
            const [type, flags = 0] = received.subarray(start + 3);
            if (type === settingsFrame && (flags & ack) === 0) {
              socket.write(frame(settingsFrame, ack, undefined, 0));
            } else if (type === headersFrame) {
              socket.write(Buffer.concat(answer));
            }
            start = next;
          }
        });
      });
      agent.listen(path);
      await once(agent, "listening");
      resources.defer(() => void agent.close());
      const agents = new ConnectionPool(new ByteBudget(0));
      resources.defer(() => agents.close());
      const call = await callThrough(agents, resources, { address: { kind: "unix", path } });
      const told: unknown[] = [];
      const hear = (sent: IncomingHttpHeaders): void => void told.push(sent["grpc-status"]);
      call.on("response", hear).on("trailers", hear);
      assert.equal(await text(call), body);
      assert.equal(told.at(-1), expected);
    });
  }
});

describe("a call of any protocol that is forwarded", () => {
  type Answer = (stream: ServerHttp2Stream) => void;

  /** A caller of a listener that forwards to one behind it, and the calls that this gets. */
  const forwarding = async (resources: AsyncDisposableStack, answer: Answer) => {
    const directory = scratchDirectory();
    const path = join(directory, "behind.sock");
    const behind = createServer();
    resources.defer(() => void behind.close());
    const asked: IncomingHttpHeaders[] = [];
    behind.on("stream", (stream: ServerHttp2Stream, headers) => {
      asked.push(headers);
      stream.on("error", () => {});
      answer(stream);
    });
    behind.listen(path);
    await once(behind, "listening");
    const pool = new ConnectionPool(new ByteBudget(0));
    resources.defer(() => pool.close());
    const front = createServer((request, response) => {
      void forwardCall(request, response, { address: { kind: "unix", path } }, pool);
    });
    front.on("session", (session) => track(session, new Set()));
    resources.defer(() => void front.close());
    const caller = connect(`http://127.0.0.1:${await listenHere(front)}`);
    resources.defer(() => caller.destroy());
    return { asked, caller };
  };

  /** Outcome of a forwarded call. */
  const call = async (answer: Answer, method = "POST", request: string | Buffer = "asked") => {
    await using resources = new AsyncDisposableStack();
    const { asked, caller } = await forwarding(resources, answer);
    const stream = caller.request({ ":method": method, ":path": "/a.Service/Call?b=c", "x-asked": "1" });
    stream.on("error", () => {});
    let body = "";
    let headers: IncomingHttpHeaders = {};
    let trailers: IncomingHttpHeaders = {};
    stream.on("response", (sent) => {
      headers = sent;
    });
    stream.on("trailers", (sent) => {
      trailers = sent;
    });
    stream.on("data", (chunk: Buffer) => {
      body += chunk.toString();
    });
    stream.end(method === "POST" ? request : undefined);
    await new Promise((resolve) => stream.once("close", resolve));
    return { asked, body, headers, trailers, code: stream.rstCode };
  };

  it("goes nowhere if it is reset at once", async () => {
    await using resources = new AsyncDisposableStack();
    const { asked, caller } = await forwarding(resources, (stream) =>
      stream.respond({}, { endStream: true }),
    );
    await once(caller, "connect");
    for (let reset = 0; reset < 50; reset++) {
      caller.request({ ":method": "POST", ":path": "/a.Service/Reset" }).close(constants.NGHTTP2_CANCEL);
    }
    const last = caller.request({ ":method": "GET", ":path": "/a.Service/Last" });
    last.resume();
    await once(last, "close");
    assert.deepEqual(
      asked.map((headers) => headers[":path"]),
      ["/a.Service/Last"],
    );
  });

  for (const what of ["an answer", "a body"] as const) {
    it(`has no more of ${what} wait than a window, and has all of it once it is read`, async () => {
      await using resources = new AsyncDisposableStack();
      const [all, part, window] = [1024 * 1024, Buffer.alloc(1024), 64 * 1024];
      let sent = 0;
      const send = async (to: Http2Stream): Promise<void> => {
        for (; sent < all; sent += part.length) {
          await new Promise((taken) => to.write(part, taken));
        }
        to.end();
      };
      const asked = Promise.withResolvers<ServerHttp2Stream>();
      const { caller } = await forwarding(resources, asked.resolve);
      const stream = caller.request({ ":method": "POST", ":path": "/a.Service/Call" });
      stream.on("error", () => {});
      const from = what === "a body" ? stream : await asked.promise;
      const sending = send(from);
      const answering = await asked.promise;
      if (what === "a body") {
        answering.respond({ ":status": 200 });
      }
      await until(() => sent >= window || undefined);
      for (let [still, last] = [0, sent]; still < 200; still = sent === last ? still + 1 : 0) {
        last = sent;
        await nextTurn();
      }
      const unread = sent;
      const to = what === "a body" ? answering : stream;
      assert.equal((await buffer(to)).length, all);
      await sending;
      assert.ok(unread <= 2.1 * window, `${unread} bytes, with those of the receiver's window`);
    });
  }

  it("has its method, path, headers, status, bytes and trailers", async () => {
    for (const method of ["POST", "GET"]) {
      const { asked, body, headers, trailers, code } = await call((stream) => {
        stream.respond({ ":status": 418, "x-answered": "2" }, { waitForTrailers: true });
        stream.on("wantTrailers", () => stream.sendTrailers({ "x-trailer": "3" }));
        stream.pipe(stream);
      }, method);
      const [{ ":method": askedMethod, ":path": path, "x-asked": given } = {}] = asked;
      assert.deepEqual([askedMethod, path, given], [method, "/a.Service/Call?b=c", "1"]);
      assert.deepEqual([headers[":status"], headers["x-answered"], trailers["x-trailer"]], [418, "2", "3"]);
      assert.deepEqual([body, code], [method === "POST" ? "asked" : "", constants.NGHTTP2_NO_ERROR]);
    }
  });

  it("has an answer without a body, and no trailers that were not sent", async () => {
    const { headers, trailers, code } = await call((stream) => {
      stream.respond({ ":status": 204 }, { endStream: true });
    });
    assert.deepEqual([headers[":status"], { ...trailers }, code], [204, {}, constants.NGHTTP2_NO_ERROR]);
  });

  it("ends if it was answered before all of it was read", async () => {
    const refuse: Answer = (stream) => {
      stream.once("data", () => {
        stream.pause();
        stream.respond({ ":status": 200 });
        stream.end("refused", () => stream.close(constants.NGHTTP2_NO_ERROR));
      });
    };
    const { body, code } = await call(refuse, "POST", Buffer.alloc(1024 * 1024));
    assert.deepEqual([body, code], ["refused", constants.NGHTTP2_NO_ERROR]);
  });

  it("is reset if it was cut, before its response or in it", async () => {
    for (const reset of [constants.NGHTTP2_CANCEL, constants.NGHTTP2_INTERNAL_ERROR]) {
      assert.equal((await call((stream) => stream.close(reset))).code, reset);
    }
    const cuts: readonly Answer[] = [
      (stream) => stream.session?.destroy(),
      (stream) => stream.destroy(new Error("cut")),
    ];
    for (const cut of cuts) {
      assert.notEqual((await call(cut)).code, constants.NGHTTP2_NO_ERROR);
      const { body, code } = await call((stream) => {
        stream.respond({ ":status": 200 });
        stream.write("half", () => cut(stream));
      });
      assert.ok("half".startsWith(body), body);
      assert.notEqual(code, constants.NGHTTP2_NO_ERROR);
    }
  });
});
