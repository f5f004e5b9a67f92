import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import {
  constants,
  createSecureServer,
  createServer,
  type Http2Server,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import { createServer as createNetServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as delay, setImmediate as nextTurn } from "node:timers/promises";
import { queryObjects } from "node:v8";

import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { connectNodeAdapter } from "@connectrpc/connect-node";

import { makeCertificates } from "../../../test/support/certificates.ts";
import { fromUnknown } from "../../common/errors.ts";
import {
  ContainerService,
  CreateContainerRequestSchema,
} from "../../gen/sockerless/backend/v1/container_pb.ts";
import {
  EventsService,
  type SubscribeEventsResponseSchema,
} from "../../gen/sockerless/backend/v1/events_pb.ts";
import { SystemService } from "../../gen/sockerless/backend/v1/system_pb.ts";
import { fieldsFromBytes } from "../bodies/encoded-fields.ts";
import { type BackendClients, createBackendClients } from "./clients.ts";
import { type BackendTransport, createBackendTransport, readBackendReach } from "./transport.ts";
import { listenHere } from "../../../test/support/listen-here.ts";
import { scratchDirectory } from "../../../test/support/scratch.ts";
import { untilTrue } from "../../../test/support/until.ts";

test("every kind of call to a backend that is away is unavailable and says what to look at", async (t) => {
  const { clients, address } = await dialled(t);
  const calls = [
    () => clients.system.getInfo({}),
    () => drain(clients.containers.waitContainer({})),
    () => drain(clients.images.loadImage(nothing())),
  ];
  for (const call of calls) {
    await assert.rejects(call, (error) => {
      const { kind, message } = fromUnknown(error);
      assert.equal(kind, "unavailable");
      assert.equal(
        message,
        `cannot connect to the sockerless backend at ${address}: is it running? (ENOENT)`,
      );
      return true;
    });
  }
});

test("the first call after the backend came, or came back, is answered", async (t) => {
  const { clients, socket } = await dialled(t);
  await assert.rejects(clients.system.getInfo({}));
  const first = await startBackend(socket, "one");
  assert.equal((await clients.system.getInfo({})).name, "one");
  await first.stop();
  await assert.rejects(clients.system.getInfo({}));
  const second = await startBackend(socket, "two");
  assert.equal((await clients.system.getInfo({})).name, "two");
  await second.stop();
});

test("a request ends with the frame of its message", async (t) => {
  const { clients, socket } = await dialled(t);
  let came = Buffer.alloc(0);
  const server = createNetServer((connection) => {
    connection
      .on("error", () => {})
      .on("data", (chunk: Buffer) => {
        came = Buffer.concat([came, chunk]);
      });
    t.after(() => connection.destroy());
  });
  t.after(() => server.close());
  await once(server.listen(socket), "listening");
  void clients.containers.pauseContainer({ container: "one" }).catch(() => {});
  const preface = 24;
  const flags: number[] = [];
  await untilTrue(() => {
    for (let at = preface; at + 9 <= came.length; at += 9 + came.readUIntBE(at, 3)) {
      if (came[at + 3] === 0) {
        flags.push(came.readUInt8(at + 4));
      }
    }
    return flags.length > 0;
  });
  assert.equal(flags[0], constants.NGHTTP2_FLAG_END_STREAM);
});

test("a request whose answer has come is sent no further", async (t) => {
  const { clients, socket } = await dialled(t);
  let calls = 0;
  let reset: number | undefined;
  const server = createServer().on("stream", (stream: ServerHttp2Stream) => {
    calls += 1;
    stream.on("error", () => {}).once("data", () => stream.pause());
    stream.once("close", () => (reset = stream.rstCode));
    stream.respond({ ":status": 200, "content-type": "application/proto", "content-length": "0" });
    stream.end();
  });
  t.after(() => server.close());
  await once(server.listen(socket), "listening");
  await clients.containers.createContainer({ name: "a", config: { image: "x".repeat(4_000_000) } });
  await untilTrue(() => reset === constants.NGHTTP2_CANCEL);
  reset = undefined;
  await clients.containers.createContainer({ name: "a" });
  await untilTrue(() => reset !== undefined);
  assert.deepEqual({ calls, reset }, { calls: 2, reset: constants.NGHTTP2_NO_ERROR });
});

test("a backend that goes away in order costs no more than its connection, whatever is asked meanwhile", async (t) => {
  const { clients, socket } = await dialled(t);
  const { sessions, stop } = await startBackend(socket, "leaving");
  t.after(stop);
  for (let turns = 0; turns < 10; turns++) {
    assert.equal((await clients.system.getInfo({})).name, "leaving");
    await delay(10); // Its stream is closed at both ends.
    for (const session of sessions) {
      session.goaway();
    }
    for (let turn = 0; turn < turns; turn++) {
      await nextTurn();
    }
    await clients.system.getInfo({}).catch((error: unknown) => {
      assert.equal(fromUnknown(error).kind, "unavailable");
    });
  }
});

test("every kind of call waits while backends die in the handshakes of its connections", async (t) => {
  const directory = scratchDirectory();
  const certificates = await makeCertificates(directory);
  const [cert, key] = await Promise.all([
    readFile(certificates.server.cert),
    readFile(certificates.server.key),
  ]);
  const answering = createSecureServer(
    { cert, key },
    connectNodeAdapter({
      routes: (router) => {
        router.service(SystemService, { getInfo: () => ({ name: "there" }) });
        router.service(ContainerService, {
          startContainer: () => ({}),
          waitContainer: async function* () {},
        });
      },
    }),
  );
  let deaths = 0;
  const server = createNetServer((connection) => {
    connection.on("error", () => {});
    if (deaths < 3) {
      deaths += 1;
      connection.once("data", () => connection.resetAndDestroy());
    } else {
      answering.emit("connection", connection);
    }
  });
  t.after(() => server.close());
  const port = await listenHere(server);
  const reach = await readBackendReach(`https://127.0.0.1:${port}`, certificates.client);
  const backend = createBackendTransport(reach);
  t.after(() => backend.close());
  const clients = createBackendClients(backend.transport);
  const [{ name }] = await Promise.all([
    clients.system.getInfo({}),
    clients.containers.startContainer({ container: "without a token" }),
    drain(clients.containers.waitContainer({})),
  ]);
  assert.deepEqual([name, deaths], ["there", 3]);
});

test("a stream whose backend was killed is unavailable", async (t) => {
  const { clients, socket } = await dialled(t);
  const server = createServer();
  t.after(() => server.close());
  server.on("session", (session) => {
    session.on("stream", (stream) => {
      stream.respond({ ":status": 200, "content-type": "application/connect+proto" });
      session.socket.destroy();
    });
  });
  await once(server.listen(socket), "listening");
  await assert.rejects(drain(clients.containers.attachContainer({})), (error) => {
    assert.equal(fromUnknown(error).kind, "unavailable");
    return true;
  });
});

test("a frontend that ends says of no call that its client has left", async (t) => {
  const { backend, clients, socket } = await dialled(t);
  const called = Promise.withResolvers<void>();
  const received: Buffer[] = [];
  const server = createNetServer((connection) => {
    connection.on("error", () => {});
    connection.on("data", (bytes: Buffer) => {
      received.push(bytes);
      if (frameTypes(Buffer.concat(received)).filter((type) => type === frame.headers).length === 5) {
        called.resolve();
      }
    });
  });
  t.after(() => server.close());
  await once(server.listen(socket), "listening");
  const lost = once(server, "connection").then(([connection]) => once(connection as Socket, "close"));
  const calls = Array.from({ length: 5 }, () =>
    assert.rejects(clients.system.getInfo({}), { rawMessage: "the frontend is shutting down" }),
  );
  await called.promise;
  backend.close();
  await Promise.all(calls);
  await lost;
  assert.equal(frameTypes(Buffer.concat(received)).includes(frame.reset), false);
});

/** Types of HTTP/2's frames (RFC 9113, 6). */
const frame = { headers: 1, reset: 3 } as const;

/** The types of the frames that are whole, behind a client's preface. */
function frameTypes(bytes: Buffer): number[] {
  const types: number[] = [];
  for (let at = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".length; at + 9 <= bytes.length; ) {
    types.push(bytes.readUInt8(at + 3));
    at += 9 + bytes.readUIntBE(at, 3);
  }
  return types;
}

interface Dialled {
  readonly backend: BackendTransport;
  readonly clients: BackendClients;
  readonly socket: string;
  readonly address: string;
}

async function dialled(t: TestContext): Promise<Dialled> {
  const directory = await mkdtemp(join(tmpdir(), "sockerless-transport-"));
  const socket = join(directory, "backend.sock");
  const address = `unix://${socket}`;
  const backend = createBackendTransport({ address });
  t.after(async () => {
    backend.close();
    await rm(directory, { recursive: true });
  });
  return { backend, clients: createBackendClients(backend.transport), socket, address };
}

interface TestBackend {
  /** Connections that were made to it. */
  readonly sessions: ReadonlySet<ServerHttp2Session>;
  stop(): Promise<void>;
}

async function startBackend(socket: string, name: string): Promise<TestBackend> {
  const handler = connectNodeAdapter({
    routes: (router) => {
      router.service(SystemService, { getInfo: () => ({ name }) });
      router.service(ContainerService, { createContainer: () => ({ id: name }) });
      router.service(EventsService, {
        async *subscribeEvents(
          _request,
          { signal },
        ): AsyncGenerator<MessageInitShape<typeof SubscribeEventsResponseSchema>> {
          yield { message: { case: "accepted", value: {} } };
          await once(signal, "abort");
        },
      });
    },
  });
  const server: Http2Server = createServer(handler);
  const sessions = new Set<ServerHttp2Session>();
  server.on("session", (session) => sessions.add(session));
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  return {
    sessions,
    stop: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const session of sessions) {
        session.destroy();
      }
      await closed;
    },
  };
}

async function drain(messages: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of messages) {
    // Only the end matters.
  }
}

async function* nothing(): AsyncGenerator<never> {}

test("hundreds of followers of events share a connection, which no other call waits behind", async (t) => {
  const { clients, socket } = await dialled(t);
  const backend = await startBackend(socket, "one");
  const leave = new AbortController();
  const standing = Array.from({ length: 300 }, () => {
    const messages = clients.events.subscribeEvents({}, { signal: leave.signal })[Symbol.asyncIterator]();
    return messages.next();
  });
  await Promise.all(standing);
  assert.equal(backend.sessions.size, 1);
  assert.equal((await clients.system.getInfo({})).name, "one");
  assert.equal(backend.sessions.size, 2);
  leave.abort();
  await backend.stop();
});

test("large requests share a connection, which no other call waits behind", async (t) => {
  const { clients, socket } = await dialled(t);
  const backend = await startBackend(socket, "one");
  const fields = toBinary(
    CreateContainerRequestSchema,
    create(CreateContainerRequestSchema, { config: { image: "x".repeat(4_000_000) } }),
  );
  const large = (): Promise<{ readonly id: string }> =>
    clients.containers.createContainer({
      name: "a",
      ...fieldsFromBytes<typeof CreateContainerRequestSchema>(fields),
    });
  for (const { id } of await Promise.all(Array.from({ length: 30 }, large))) {
    assert.equal(id, "one");
  }
  assert.equal(backend.sessions.size, 1);
  assert.equal((await clients.containers.createContainer({ name: "a" })).id, "one");
  assert.equal((await clients.system.getInfo({})).name, "one");
  assert.equal(backend.sessions.size, 2);
  await backend.stop();
});

for (const [what, window, open] of [
  ["events", 8_192, ({ events }: BackendClients) => events.subscribeEvents({})],
  ["a pull", 65_535, ({ images }: BackendClients) => images.pullImage({})],
] as const) {
  test(`no more of ${what} than a window comes to who does not read, joined, and all once it is read`, async (t) => {
    const { backend, clients, socket } = await dialled(t);
    const message = Buffer.from([0, 0, 0, 0, 2, 0x7a, 0]); // A kind of a newer version.
    const all = 12_000;
    let sent = 0;
    const server = createServer();
    t.after(() => server.close());
    server.on("stream", async (stream: ServerHttp2Stream) => {
      stream.on("error", () => {});
      stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
      for (; sent < all; sent += 1) {
        await new Promise((resolve) => stream.write(message, resolve));
      }
      stream.end();
    });
    await once(server.listen(socket), "listening");
    const buffers = (): number => queryObjects(Buffer, { format: "count" });
    const messages = open(clients)[Symbol.asyncIterator]();
    await messages.next();
    const [sentBefore, before] = [sent, buffers()];
    await untilTrue(() => (sent + 2) * message.length > window);
    for (let [still, last] = [0, sent]; still < 100; still = sent === last ? still + 1 : 0) {
      last = sent;
      await nextTurn();
    }
    const [bytes, more] = [(sent - sentBefore) * message.length, buffers() - before];
    assert.ok(bytes < 1.1 * window && more < 100, `${bytes} bytes in ${more} buffers`);
    let read = 1;
    while ((await messages.next()).done !== true) {
      read += 1;
    }
    assert.equal(read, all);
    backend.close();
  });
}
