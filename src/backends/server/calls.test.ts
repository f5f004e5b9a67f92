/** Promises of a backend's calls, in both forms that callers use. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect as connectHttp2, constants, createServer as createHttp2Server } from "node:http2";
import { connect } from "node:net";
import { join } from "node:path";
import { duplexPair } from "node:stream";
import { after, before, test } from "node:test";

import { type Client, Code, createClient, createHandlerContext } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import pino from "pino";

import { ConnectionPool } from "../../agent-client/connection-pool.ts";
import { ByteBudget } from "../../common/byte-budget.ts";
import { conflict, fromUnknown } from "../../common/errors.ts";
import { SystemService } from "../../gen/sockerless/backend/v1/system_pb.ts";
import { isCallerLost } from "../concurrency/caller-lost.ts";
import { forwardCall } from "./relay.ts";
import { type BackendServer, serveBackend } from "./server.ts";
import { scratchDirectory } from "../../../test/support/scratch.ts";

const lines: string[] = [];
const logger = pino({ level: "debug" }, { write: (line) => lines.push(line) });
const directory = scratchDirectory();
let socket: string;
let server: BackendServer;
let session: Http2SessionManager;
let client: Client<typeof SystemService>;
/** Handler of the next call. */
let info: (signal: AbortSignal, headers: Headers) => Promise<{ readonly name: string }>;

before(async () => {
  socket = join(directory, "backend.sock");
  server = await serveBackend({
    address: `unix://${socket}`,
    tls: undefined,
    runDir: directory,
    logger,
    register: (router) =>
      router.service(SystemService, {
        getInfo: async (_, context) => {
          context.responseHeader.set("x-answered", context.requestHeader.get("x-asked") ?? "");
          context.responseTrailer.set("x-last", "word");
          return await info(context.signal, context.requestHeader);
        },
      }),
    resolveAgent: () => Promise.resolve(undefined),
  });
  session = new Http2SessionManager("http://backend", {}, { createConnection: () => connect(socket) });
  client = createClient(
    SystemService,
    createConnectTransport({
      httpVersion: "2",
      useBinaryFormat: true,
      baseUrl: "http://backend",
      sessionManager: session,
      acceptCompression: [],
    }),
  );
});
after(async () => {
  session.abort();
  await server.close();
});

test("a message is answered with a message, headers and trailers", async () => {
  info = () => Promise.resolve({ name: "one" });
  const heard: (string | null)[] = [];
  const { name } = await client.getInfo(
    {},
    {
      headers: { "x-asked": "this" },
      onHeader: (headers) => heard.push(headers.get("x-answered")),
      onTrailer: (trailers) => heard.push(trailers.get("x-last")),
    },
  );
  assert.deepEqual([name, ...heard], ["one", "this", "word"]);
  assert.match(lines.at(-1) ?? "", /SystemService\/GetInfo.*"status":"ok"/);
});

test("an answer ends with the frame of its message", async () => {
  info = () => Promise.resolve({ name: "one" });
  const [ours, theirs] = duplexPair();
  const connection = connect(socket);
  const came: Buffer[] = [];
  connection.on("data", (chunk: Buffer) => came.push(chunk));
  connection.pipe(theirs).pipe(connection);
  const caller = connectHttp2("http://backend", { createConnection: () => ours });
  const path = `/${SystemService.typeName}/GetInfo`;
  const header = { ":method": "POST", ":path": path, "content-type": "application/proto" };
  const call = caller.request({ ...header, "content-length": "0" });
  await once(call.end().resume(), "close");
  caller.destroy();
  const flags: number[] = [];
  const bytes = Buffer.concat(came);
  for (let at = 0; at < bytes.length; at += 9 + bytes.readUIntBE(at, 3)) {
    if (bytes[at + 3] === 0) {
      flags.push(bytes.readUInt8(at + 4));
    }
  }
  assert.deepEqual(flags, [constants.NGHTTP2_FLAG_END_STREAM]);
});

test("calls that end make no error each", async () => {
  info = () => Promise.resolve({ name: "one" });
  const signals: AbortSignal[] = [];
  const keeping = createClient(
    SystemService,
    createConnectTransport({
      httpVersion: "2",
      baseUrl: "http://backend",
      sessionManager: session,
      interceptors: [
        (next) => (request) => {
          signals.push(request.signal);
          return next(request);
        },
      ],
    }),
  );
  for (let call = 0; call < 2; call += 1) {
    await keeping.getInfo({});
    const context = createHandlerContext({
      service: SystemService,
      method: SystemService.method.getInfo,
      protocolName: "connect",
      requestMethod: "POST",
      url: "http://backend",
    });
    context.abort();
    signals.push(context.signal);
  }
  assert.equal(signals.length, 4);
  assert.ok(signals.every(({ reason }) => reason !== undefined && reason === signals[0]?.reason));
});

test("the signal of a call that was answered aborts no more", async () => {
  const signals: AbortSignal[] = [];
  info = (signal) => Promise.resolve({ name: String(signals.push(signal)) });
  await client.getInfo({});
  await client.getInfo({});
  assert.deepEqual(signals[0]?.aborted, false);
});

test("an error keeps its kind, and an unexpected one is logged", async () => {
  info = () => Promise.reject(conflict("the engine is busy"));
  await assert.rejects(client.getInfo({}), (error) => {
    const { kind, message } = fromUnknown(error);
    assert.deepEqual([kind, message], ["conflict", "the engine is busy"]);
    return true;
  });
  info = () => Promise.reject(new TypeError("undefined is not a container"));
  await assert.rejects(client.getInfo({}), { code: Code.Internal });
  assert.match(lines.at(-1) ?? "", /"call failed"/);
});

test("a caller that leaves ends the call", async () => {
  const called = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<void>();
  info = async (signal) => {
    called.resolve();
    await once(signal, "abort");
    ended.resolve();
    return { name: "late" };
  };
  const leave = new AbortController();
  const answer = client.getInfo({}, { signal: leave.signal });
  await called.promise;
  leave.abort();
  await assert.rejects(answer, { code: Code.Canceled });
  await ended.promise;
});

/** A listener that passes calls on to a socket, as the thread with the TCP port does. */
async function passedOn(path: string): Promise<{ readonly path: string; close(): void }> {
  const calls = new ConnectionPool(new ByteBudget(0));
  const own = join(directory, "passing.sock");
  const passing = createHttp2Server((request, response) => {
    void forwardCall(request, response, { address: { kind: "unix", path } }, calls);
  }).listen(own);
  await once(passing, "listening");
  const close = (): void => {
    passing.close();
    calls.close();
  };
  return { path: own, close };
}

const callsAtOnce = 20;

test("a caller that cancels is distinguished from one that is lost with its connection", async (t) => {
  const passing = await passedOn(socket);
  t.after(() => passing.close());
  const each = [socket, passing.path].flatMap((path) =>
    [false, true].flatMap((useHttpGet) =>
      (["leaves", "is lost", "ends"] as const).map((way) => [way, path, useHttpGet] as const),
    ),
  );
  for (const [way, path, useHttpGet] of each) {
    const called = Promise.withResolvers<void>();
    const ended = Promise.withResolvers<void>();
    const reasons: unknown[] = [];
    let begun = 0;
    info = async (signal) => {
      begun += 1;
      if (begun === callsAtOnce) {
        called.resolve();
      }
      await once(signal, "abort");
      if (reasons.push(signal.reason) === callsAtOnce) {
        ended.resolve();
      }
      return { name: "late" };
    };
    const connection = connect(path);
    const own = new Http2SessionManager("http://backend", {}, { createConnection: () => connection });
    const leave = new AbortController();
    const transport = createConnectTransport({
      httpVersion: "2",
      useBinaryFormat: true,
      useHttpGet,
      baseUrl: "http://backend",
      sessionManager: own,
      acceptCompression: [],
    });
    const caller = createClient(SystemService, transport);
    const answers = Array.from({ length: callsAtOnce }, () => caller.getInfo({}, { signal: leave.signal }));
    const failed = Promise.all(answers.map((answer) => assert.rejects(answer)));
    await called.promise;
    if (way === "leaves") {
      leave.abort(new Error("the client is gone"));
    } else if (way === "is lost") {
      connection.destroy();
    } else {
      own.abort();
    }
    await failed;
    await ended.promise;
    assert.ok(
      reasons.every((reason) => isCallerLost(reason) === (way !== "leaves")),
      `${way}, ${path}, ${useHttpGet ? "GET" : "POST"}`,
    );
    own.abort();
  }
});

test("a call that is cut before it was whole is not made", async () => {
  const calls: string[] = [];
  info = () => {
    calls.push("made");
    return Promise.resolve({ name: "cut" });
  };
  const whole = Buffer.from([10, 1, 65]); // A field that is whole, of a message that is not.
  const forms = [
    [{ "content-type": "application/proto", "content-length": "7" }, whole],
    [{ "content-type": "application/grpc+proto" }, Buffer.concat([Buffer.from([0, 0, 0, 0, 7]), whole])],
  ] as const;
  for (const [headers, sent] of forms) {
    for (const isReset of [true, false]) {
      const cut = connectHttp2("http://backend", { createConnection: () => connect(socket) });
      const path = `/${SystemService.typeName}/GetInfo`;
      const stream = cut.request({ ":method": "POST", ":path": path, ...headers });
      stream.on("error", () => {});
      stream.write(sent);
      const closed = new Promise((resolve) => stream.once("close", resolve));
      await once(cut, "connect");
      await new Promise<void>((resolve) => cut.ping(() => resolve())); // The server has what was sent.
      if (isReset) {
        stream.close(constants.NGHTTP2_CANCEL);
      } else {
        cut.destroy();
      }
      await closed;
      cut.destroy();
    }
  }
  // The server has dealt with everything sent before by the time it answers this.
  info = () => Promise.resolve({ name: "whole" });
  assert.equal((await client.getInfo({})).name, "whole");
  assert.deepEqual(calls, []);
});

test("an error has its words, however many and whatever they are", async () => {
  const grpc = createClient(
    SystemService,
    createGrpcTransport({ baseUrl: "http://backend", sessionManager: session }),
  );
  for (const [words, told] of [
    ["é ".repeat(5_000), "é ".repeat(5_000)],
    ["x\ud800", "x\ufffd"],
    ["\u{1f600}".repeat(100_000), `${"\u{1f600}".repeat(2_500)} …`],
  ] as const) {
    info = () => Promise.reject(conflict(words));
    await assert.rejects(grpc.getInfo({}), { rawMessage: told });
  }
});

test("a call with a time limit has it", async () => {
  info = async (signal) => {
    await once(signal, "abort");
    return { name: "late" };
  };
  await assert.rejects(client.getInfo({}, { timeoutMs: 20 }), { code: Code.DeadlineExceeded });
});

test("answers of the largest lists that are not read leave the connection to other calls", async () => {
  info = (_, headers) => Promise.resolve({ name: headers.has("x-long") ? "x".repeat(60_000_000) : "short" });
  const path = "/sockerless.backend.v1.SystemService/GetInfo";
  const header = { "content-type": "application/proto", "connect-protocol-version": "1", "x-long": "1" };
  const lists = await Promise.all([1, 2, 3, 4].map(() => session.request("POST", path, header, {})));
  await Promise.all(lists.map((each) => once(each.on("error", () => {}).end(), "response")));
  assert.equal((await client.getInfo({})).name, "short");
});
