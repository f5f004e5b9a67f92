import assert from "node:assert/strict";
import { once } from "node:events";
import { stat } from "node:fs/promises";
import { request } from "node:http";
import {
  connect as connectHttp2,
  constants,
  createServer as createHttp2Server,
  type Http2Server,
  type ServerHttp2Stream,
} from "node:http2";
import { connect } from "node:net";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setImmediate as nextTurn } from "node:timers/promises";
import { Client, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import { conflict } from "../../common/errors.ts";
import { createLogger } from "../../common/logger.ts";
import { EventsService, SubscribeEventsResponseSchema } from "../../gen/sockerless/backend/v1/events_pb.ts";
import { GetCapabilitiesResponseSchema, SystemService } from "../../gen/sockerless/backend/v1/system_pb.ts";
import { create } from "@bufbuild/protobuf";
import { type BackendServer, serveBackend } from "./server.ts";
import { scratchDirectory } from "../../../test/support/scratch.ts";

const containerId = "0123456789abcdef".repeat(4);
const lines: Readonly<Record<string, unknown>>[] = [];
const logger = createLogger({
  level: "debug",
  process: "backend",
  destination: { write: (line) => void lines.push(JSON.parse(line) as (typeof lines)[number]) },
});

describe("a backend's listener", () => {
  const directory = scratchDirectory();
  let server: BackendServer;
  let socket: string;
  let agent: Http2Server;
  /** Messages of the stream of events that were asked for. */
  let asked = 0;

  before(async () => {
    socket = join(directory, "backend.sock");
    agent = createHttp2Server();
    agent.on("stream", (stream: ServerHttp2Stream, headers) => {
      stream.on("error", () => {}); // the cut that a test asks for
      if (headers[":path"]?.endsWith("/Cut") === true) {
        stream.respond({ ":status": 200, "content-type": "application/grpc" });
        stream.write(Buffer.from([0, 0, 0, 0, 0]));
        setImmediate(() => stream.close(constants.NGHTTP2_INTERNAL_ERROR));
        return;
      }
      stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
      stream.on("wantTrailers", () =>
        stream.sendTrailers({
          "grpc-status": "0",
          "x-container": String(headers["sockerless-container-id"]),
        }),
      );
      stream.pipe(stream);
    });
    const agentSocket = join(directory, "agent.sock");
    await new Promise<void>((resolve) => agent.listen(agentSocket, resolve));
    server = await serveBackend({
      address: `unix://${socket}`,
      tls: undefined,
      runDir: directory,
      logger,
      register: (router) => {
        router.service(EventsService, {
          async *subscribeEvents() {
            for (; asked < 20_000; asked += 1) {
              yield create(SubscribeEventsResponseSchema, { message: { case: "heartbeat", value: {} } });
            }
          },
        });
        router.service(SystemService, {
          getCapabilities: () =>
            create(GetCapabilitiesResponseSchema, { backend: "local", capabilities: { exec: true } }),
          getDiskUsage: () => {
            throw new TypeError("a bug");
          },
          getInfo: () => {
            throw conflict("the engine is busy");
          },
        });
      },
      resolveAgent: (id) =>
        Promise.resolve(
          id === containerId ? { address: { kind: "unix", path: agentSocket }, containerId: id } : undefined,
        ),
    });
  });

  after(async () => {
    await server.close();
    await new Promise((resolve) => agent.close(resolve));
  });

  test("is for its owner alone", async () => {
    assert.equal((await stat(socket)).mode & 0o777, 0o600);
  });

  test("answers a plain GET with the capability object in the contract's field names", async () => {
    const path = `/${SystemService.typeName}/GetCapabilities?connect=v1&encoding=json&message=%7B%7D`;
    const { status, body } = await get(socket, path);
    assert.equal(status, 200);
    const answer = JSON.parse(body) as { capabilities: Record<string, unknown> };
    assert.equal(answer.capabilities["max_timeout_seconds"], 0);
    assert.equal(answer.capabilities["logs_follow"], false);
    assert.equal(answer.capabilities["exec"], true);
  });

  test("refuses a message of more than 64 MiB before it has come", async () => {
    const session = connectHttp2("http://backend", { createConnection: () => connect(socket) });
    const head = Buffer.alloc(5);
    head.writeUInt32BE(64 * 1024 * 1024 + 1, 1);
    const call = session.request({
      ":path": `/${SystemService.typeName}/GetCapabilities`,
      ":method": "POST",
      "content-type": "application/grpc",
    });
    call.on("error", () => {}).write(head);
    const refused = await new Promise<unknown>((resolve) => {
      call.once("trailers", (trailers) => resolve(trailers["grpc-status"]));
      call.once("response", (headers) => "grpc-status" in headers && resolve(headers["grpc-status"]));
      call.resume();
    });
    assert.equal(refused, "8");
    session.destroy();
  });

  test("keeps a connection on which thousands of calls are given up at once", async () => {
    const session = connectHttp2("http://backend", { createConnection: () => connect(socket) });
    session.on("error", () => {}); // It is cut, which the closed state tells.
    const path = `/${SystemService.typeName}/GetCapabilities?connect=v1&encoding=json&message=%7B%7D`;
    const calls = Array.from({ length: 3_000 }, () => session.request({ ":path": path }));
    const ended = calls.map(
      (call) => new Promise<void>((resolve) => call.on("error", () => {}).on("close", resolve)),
    );
    for (const call of calls) {
      call.close(constants.NGHTTP2_CANCEL);
    }
    await Promise.all(ended);
    await new Promise<void>((resolve, reject) =>
      session.ping((error) => (error === null ? resolve() : reject(error))),
    );
    session.destroy();
  });

  test("makes few messages for a caller that does not read, however small, and all once it reads", async () => {
    const session = connectHttp2("http://backend", {
      createConnection: () => connect(socket),
      settings: { initialWindowSize: 0 },
    });
    const call = session.request({
      ":path": `/${EventsService.typeName}/SubscribeEvents`,
      ":method": "POST",
      "content-type": "application/grpc",
    });
    call.end(Buffer.alloc(5));
    await once(call, "response");
    for (let turn = 0; turn < 1_000; turn += 1) {
      await nextTurn();
    }
    assert.ok(asked > 0 && asked < 20, `${asked} wait`);
    session.settings({ initialWindowSize: 65_535 });
    await call.resume().toArray();
    assert.equal(asked, 20_000);
    session.destroy();
  });

  test("sends any gRPC client the kind and the message of an error", async () => {
    const error = await unary(socket, `/${SystemService.typeName}/GetInfo`);
    assert.equal(error?.details, "the engine is busy");
    assert.deepEqual(error?.metadata.get("sockerless-error-kind"), ["conflict"]);
  });

  test("logs each call with its path, its status and how long it took", async () => {
    lines.length = 0;
    const path = `/${SystemService.typeName}/GetCapabilities?connect=v1&encoding=json&message=%7B%7D`;
    await get(socket, path);
    await unary(socket, `/${SystemService.typeName}/GetInfo`);
    assert.deepEqual(
      lines.map(({ level, msg, method, status, reason }) => ({ level, msg, method, status, reason })),
      [
        {
          level: "debug",
          msg: "call",
          method: `${SystemService.typeName}/GetCapabilities`,
          status: "ok",
          reason: undefined,
        },
        {
          level: "debug",
          msg: "call refused",
          method: `${SystemService.typeName}/GetInfo`,
          status: "conflict",
          reason: "the engine is busy",
        },
      ],
    );
    for (const { ms } of lines) {
      assert.ok(typeof ms === "number" && ms >= 0, String(ms));
    }
  });

  test("logs an unexpected failure with its stack", async () => {
    lines.length = 0;
    await unary(socket, `/${SystemService.typeName}/GetDiskUsage`);
    const [failed] = lines;
    assert.deepEqual(
      [failed?.["level"], failed?.["msg"], failed?.["status"]],
      ["warn", "call failed", "system"],
    );
    assert.match(JSON.stringify(failed?.["err"]), /a bug.*server\.test/);
  });

  test("takes an HTTP/2 preface that comes in pieces", async () => {
    const raw = connect(socket);
    raw.write("PRI");
    await new Promise((resolve) => setTimeout(resolve, 20));
    raw.write(" * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    const first = await new Promise<Buffer>((resolve) => raw.once("data", resolve));
    assert.equal(first[3], 4, "a SETTINGS frame answers");
    raw.destroy();
  });

  test("serves the health protocol", async () => {
    assert.equal(await unary(socket, "/grpc.health.v1.Health/Check"), null);
  });

  test("refuses a second backend on its socket and leaves the first alone", async () => {
    await assert.rejects(
      serveBackend({
        address: `unix://${socket}`,
        tls: undefined,
        runDir: directory,
        logger,
        register: () => {},
        resolveAgent: () => Promise.resolve(undefined),
      }),
      { kind: "conflict", message: /already serves a backend/ },
    );
    assert.equal(await unary(socket, "/grpc.health.v1.Health/Check"), null);
  });

  describe("relays agent calls", () => {
    const call = (method: string, id: string, body: Buffer) => relayed(socket, method, id, body);

    test("with every byte, header and trailer", async () => {
      const body = Buffer.alloc(8 * 1024 * 1024, "relay");
      const { status, received, trailers } = await call("Session", containerId, body);
      assert.equal(status, 200);
      assert.ok(received.equals(body));
      assert.equal(trailers["grpc-status"], "0");
      assert.equal(trailers["x-container"], containerId);
    });

    test("over connections that they share", async () => {
      let opened = 0;
      const count = (): void => void opened++;
      agent.on("session", count);
      await Promise.all(Array.from({ length: 5 }, () => call("Logs", containerId, Buffer.alloc(0))));
      agent.off("session", count);
      assert.ok(opened <= 1, String(opened));
    });

    test("and never ends a cut call with success", async () => {
      const { trailers, code } = await call("Cut", containerId, Buffer.alloc(0));
      assert.notEqual(trailers["grpc-status"], "0");
      assert.ok(trailers["grpc-status"] !== undefined || code !== 0);
    });

    test("and says which container it does not know", async () => {
      const { headers } = await call("Logs", "f".repeat(64), Buffer.alloc(0));
      assert.equal(headers["grpc-status"], "5");
      assert.match(decodeURIComponent(String(headers["grpc-message"])), /^No such container: f+$/);
    });

    test("and wants a full container ID", async () => {
      const { headers } = await call("Logs", "../../etc", Buffer.alloc(0));
      assert.equal(headers["grpc-status"], "3");
    });
  });
});

function get(socketPath: string, path: string): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    request({ socketPath, path }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (text: string) => {
        body += text;
      });
      response.once("end", () => resolve({ status: response.statusCode ?? 0, body }));
    })
      .once("error", reject)
      .end();
  });
}

function unary(socketPath: string, path: string): Promise<ServiceError | null> {
  const client = new Client(`unix:${socketPath}`, credentials.createInsecure());
  const bytes = (buffer: Buffer): Buffer => buffer;
  return new Promise((resolve) => {
    client.makeUnaryRequest(path, bytes, bytes, Buffer.alloc(0), new Metadata(), (error) => {
      client.close();
      resolve(error);
    });
  });
}

async function relayed(socketPath: string, method: string, id: string, body: Buffer) {
  const session = connectHttp2("http://backend", { createConnection: () => connect(socketPath) });
  const stream = session.request({
    ":method": "POST",
    ":path": `/sockerless.agent.v1.AgentService/${method}`,
    "content-type": "application/grpc",
    te: "trailers",
    "sockerless-container-id": id,
  });
  let headers: Record<string, unknown> = {};
  let trailers: Record<string, unknown> = {};
  const chunks: Buffer[] = [];
  stream.on("response", (sent) => {
    headers = sent;
  });
  stream.on("trailers", (sent) => {
    trailers = sent;
  });
  stream.on("data", (chunk: Buffer) => chunks.push(chunk));
  stream.on("error", () => {});
  const closed = new Promise((resolve) => stream.once("close", resolve));
  stream.end(body);
  await closed;
  const code = stream.rstCode ?? 0;
  session.close();
  return { status: headers[":status"], headers, received: Buffer.concat(chunks), trailers, code };
}
