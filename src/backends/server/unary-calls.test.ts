/** The answers by hand, asked by the library's client. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect as connectHttp2, constants } from "node:http2";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { type Client, Code, createClient } from "@connectrpc/connect";
import { createConnectTransport, Http2SessionManager } from "@connectrpc/connect-node";
import pino from "pino";

import { conflict, fromUnknown, unavailable } from "../../common/errors.ts";
import { requestUnary } from "../../common/unary-request.ts";
import { SystemService } from "../../gen/sockerless/backend/v1/system_pb.ts";
import { isCallerLost } from "../concurrency/caller-lost.ts";
import { type BackendServer, serveBackend } from "./server.ts";

const lines: string[] = [];
const logger = pino({ level: "debug" }, { write: (line) => lines.push(line) });
let directory: string;
let socket: string;
let server: BackendServer;
let session: Http2SessionManager;
let client: Client<typeof SystemService>;
/** Handler of the next call. */
let info: (signal: AbortSignal, headers: Headers) => Promise<{ readonly name: string }>;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), "sockerless-unary-"));
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
  await rm(directory, { recursive: true });
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

test("an error travels with its kind, and what nobody foresaw is logged", async () => {
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

test("a caller that leaves is told from one that is lost with its connection", async () => {
  for (const way of ["leaves", "is lost"] as const) {
    const called = Promise.withResolvers<void>();
    const ended = Promise.withResolvers<unknown>();
    info = async (signal) => {
      called.resolve();
      await once(signal, "abort");
      ended.resolve(signal.reason);
      return { name: "late" };
    };
    const connection = connect(socket);
    const own = new Http2SessionManager("http://backend", {}, { createConnection: () => connection });
    const leave = new AbortController();
    const transport = createConnectTransport({
      httpVersion: "2",
      useBinaryFormat: true,
      baseUrl: "http://backend",
      sessionManager: own,
      acceptCompression: [],
    });
    const answer = createClient(SystemService, transport).getInfo({}, { signal: leave.signal });
    await called.promise;
    if (way === "leaves") {
      leave.abort();
    } else {
      connection.destroy();
    }
    await assert.rejects(answer);
    assert.equal(isCallerLost(await ended.promise), way === "is lost", way);
    own.abort();
  }
});

test("a caller that ends, and so leaves its client without the answer, is lost", async () => {
  const path = `/${SystemService.typeName}/GetInfo`;
  const headers = { "content-type": "application/proto", "content-length": "0" };
  const unread = { begin: () => {}, take: () => {}, end: () => undefined };
  for (const [reason, isLost] of [
    [unavailable("the Docker API is shutting down"), true],
    [new Error("the client is gone"), false],
  ] as const) {
    const called = Promise.withResolvers<void>();
    const ended = Promise.withResolvers<unknown>();
    info = async (signal) => {
      called.resolve();
      await once(signal, "abort");
      ended.resolve(signal.reason);
      return { name: "late" };
    };
    const leave = new AbortController();
    const open = () => session.request("POST", path, headers, {});
    const answer = requestUnary(open, new Uint8Array(), unread, {
      signal: leave.signal,
      timeoutMs: undefined,
    });
    await called.promise;
    leave.abort(reason);
    await assert.rejects(answer, { code: Code.Canceled });
    assert.equal(isCallerLost(await ended.promise), isLost, reason.message);
  }
});

test("a call that is cut before it was whole is not made", async () => {
  const calls: string[] = [];
  info = () => {
    calls.push("made");
    return Promise.resolve({ name: "cut" });
  };
  for (const length of [undefined, "7"]) {
    const cut = connectHttp2("http://backend", { createConnection: () => connect(socket) });
    const stream = cut.request({
      ":method": "POST",
      ":path": `/${SystemService.typeName}/GetInfo`,
      "content-type": "application/proto",
      ...(length === undefined ? {} : { "content-length": length }),
    });
    stream.on("error", () => {});
    stream.write(Buffer.from([10, 1, 65])); // A field that is whole, of a message that is not.
    const closed = new Promise((resolve) => stream.once("close", resolve));
    await once(cut, "connect");
    await new Promise<void>((resolve) => cut.ping(() => resolve())); // The server has what was sent.
    if (length === undefined) {
      cut.destroy();
    } else {
      stream.close(constants.NGHTTP2_CANCEL);
    }
    await closed;
    cut.destroy();
  }
  // The server has dealt with everything sent before by the time it answers this.
  info = () => Promise.resolve({ name: "whole" });
  assert.equal((await client.getInfo({})).name, "whole");
  assert.deepEqual(calls, []);
});

test("a call with a time limit has it", async () => {
  info = async (signal) => {
    await once(signal, "abort");
    return { name: "late" };
  };
  await assert.rejects(client.getInfo({}, { timeoutMs: 20 }), { code: Code.DeadlineExceeded });
});
