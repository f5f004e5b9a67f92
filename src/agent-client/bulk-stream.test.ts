import assert from "node:assert/strict";
import { once } from "node:events";
import { type ClientHttp2Stream, constants, createServer, type ServerHttp2Stream } from "node:http2";
import { createServer as createSocketServer, type Socket } from "node:net";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { setImmediate } from "node:timers/promises";

import { create, type MessageInitShape, toBinary } from "@bufbuild/protobuf";

import { LogsResponseSchema, SessionResponseSchema } from "../gen/sockerless/agent/v1/agent_pb.ts";
import { AgentStream, type Outcome, type StreamFailure, type StreamKind } from "./agent-stream.ts";
import { silenceLimitMs } from "./bulk-stream.ts";
import { AgentConnection } from "./connection.ts";
import { cutLimitMs } from "./link.ts";
import { logsStream } from "./logs.ts";
import { encodeOpenExec, sessionStream } from "./session.ts";
import { scratchDirectory } from "../../test/support/scratch.ts";
import { until } from "../../test/support/until.ts";

const grpc = { ":status": 200, "content-type": "application/grpc+proto" } as const;

function framed(message: Uint8Array): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

const response = (value: MessageInitShape<typeof SessionResponseSchema>["message"]): Buffer =>
  framed(
    toBinary(
      SessionResponseSchema,
      create(SessionResponseSchema, value === undefined ? {} : { message: value }),
    ),
  );
const started = response({ case: "started", value: { pid: 1n } });
const exit = response({ case: "exit", value: { code: 3 } });

interface Ended {
  readonly outcome?: Outcome;
  readonly failure?: StreamFailure;
  readonly output: string;
  readonly opened: number;
}

/** A connection to a server that behaves as a test says. */
async function connectionTo(
  t: TestContext,
  behave: (stream: ServerHttp2Stream) => void,
): Promise<AgentConnection> {
  const path = join(scratchDirectory(), "agent.sock");
  const server = createServer();
  server.on("stream", (stream: ServerHttp2Stream) => behave(stream.on("error", () => {})));
  server.listen(path);
  await once(server, "listening");
  const connection = new AgentConnection({ address: { kind: "unix", path } });
  t.after(() => {
    connection.close();
    server.close();
  });
  return connection;
}

/** Opens a stream at a server that behaves as a test says, and waits for its one end. */
async function endOf(
  t: TestContext,
  behave: (stream: ServerHttp2Stream) => void,
  kind: StreamKind = sessionStream,
): Promise<Ended> {
  const connection = await connectionTo(t, (stream) => {
    stream.resume();
    behave(stream);
  });
  const ended = Promise.withResolvers<Ended>();
  let output = "";
  let opened = 0;
  await AgentStream.open(
    connection,
    kind,
    { containerId: undefined, first: encodeOpenExec({}), carriesInput: false },
    {
      opened: () => opened++,
      outputEnded: () => assert.fail("sessions have no such end"),
      data: (_, source, start, end) => {
        output += Buffer.from(source.subarray(start, end)).toString();
      },
      ended: (outcome) => ended.resolve({ outcome, output, opened }),
      failed: (failure) => ended.resolve({ failure, output, opened }),
    },
  );
  return await ended.promise;
}

/** Ends the response with this gRPC status. */
function finish(stream: ServerHttp2Stream, trailers: Record<string, string>, ...frames: Buffer[]): void {
  stream.respond(grpc, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers(trailers));
  stream.end(Buffer.concat(frames));
}

test("an exit is the end, and the code is the process's", async (t) => {
  const end = await endOf(t, (stream) => finish(stream, { "grpc-status": "0" }, started, exit));
  assert.deepEqual(end, { outcome: { kind: "exit", exitCode: 3 }, output: "", opened: 1 });
});

test("a long request that waits for its agent's connection gives way, too", async () => {
  const [late, never] = [
    Promise.withResolvers<ClientHttp2Stream>(),
    Promise.withResolvers<ClientHttp2Stream>(),
  ];
  const asked = [late.promise];
  const connection = { request: () => asked.shift() ?? never.promise } as unknown as AgentConnection;
  const closed: number[] = [];
  const first = new Uint8Array(4 * 1024 ** 2);
  const listener = {
    outputEnded: () => {},
    data: () => {},
    ended: () => {},
    opened: () => {},
    failed: () => {},
  };
  const open = () =>
    AgentStream.open(
      connection,
      sessionStream,
      { containerId: undefined, first, carriesInput: false },
      listener,
    );
  const opened = Array.from({ length: 17 }, open);
  await assert.rejects(async () => opened[0], /too many long requests wait/);
  const stream = { on: () => stream, close: (code: number) => closed.push(code) };
  late.resolve(stream as unknown as ClientHttp2Stream);
  never.reject(new Error("no agent"));
  await Promise.allSettled(opened);
  await setImmediate();
  assert.deepEqual(closed, [constants.NGHTTP2_CANCEL]);
});

test("long requests that agents do not read are bounded together, whatever these say", async (t) => {
  const calls: ServerHttp2Stream[] = [];
  const connection = await connectionTo(t, (stream) => {
    calls.push(stream);
    stream.respond(grpc);
    stream.write(started);
  });
  const failed: number[] = [];
  let begun = 0;
  const open = async (bytes: number): Promise<AgentStream> => {
    const n = begun++;
    const accepted = Promise.withResolvers<void>();
    const listener = { outputEnded: () => {}, data: () => {}, ended: () => {} };
    const first = new Uint8Array(bytes);
    const stream = await AgentStream.open(
      connection,
      sessionStream,
      { containerId: undefined, first, carriesInput: false },
      { ...listener, opened: () => accepted.resolve(), failed: () => failed.push(n) },
    );
    await accepted.promise;
    return stream;
  };
  const streams: AgentStream[] = [];
  while (streams.length < 20) {
    streams.push(await open(4 * 1024 ** 2));
  }
  streams.push(await open(1024));
  await until(() => failed.length === 4 || undefined);
  for (const stream of streams.slice(5)) {
    stream.cancel();
  }
  await until(() => calls.filter(({ closed }) => !closed).length === 1 || undefined);
  for (let n = 0; n < 15; n += 1) {
    await open(4 * 1024 ** 2);
  }
  assert.deepEqual(failed, [0, 1, 2, 3], "what is over gives its room back");
});

for (const [what, most, answer, isCut] of [
  ["whose results are known", 256, Buffer.concat([started, exit]), false],
  ["whose answers were cut while input waits", 16, started, true],
  ["whose clients have left", 256, started, false],
] as const) {
  test(`of calls ${what} and that their agent does not end, a bounded number stays`, async (t) => {
    const calls: ServerHttp2Stream[] = [];
    const connection = await connectionTo(t, (stream) => {
      calls.push(stream);
      stream.respond(grpc);
      stream.write(answer);
      if (isCut) {
        stream.once("data", () => stream.pause().end());
      }
    });
    for (let call = 0; call < most + 20; call += 1) {
      const [opened, ended] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
      const stream = await AgentStream.open(
        connection,
        sessionStream,
        { containerId: undefined, first: encodeOpenExec({}), carriesInput: false },
        {
          opened: () => opened.resolve(),
          outputEnded: () => {},
          data: () => {},
          ended: () => ended.resolve(),
          failed: () => ended.resolve(),
        },
      );
      await opened.promise;
      if (answer === started && !isCut) {
        stream.leave();
      } else {
        stream.sendInput(Buffer.alloc(isCut ? 1_048_576 : 0), () => {});
        await ended.promise;
      }
    }
    const staying = (): number => calls.filter(({ closed }) => !closed).length;
    for (let turn = 0; turn < 1_000 && staying() > most; turn += 1) {
      await setImmediate(); // In half a minute their agent's silence would end them.
    }
    assert.ok(staying() <= most, `${staying()} calls`);
  });
}

test("status OK without an exit is a failure", async (t) => {
  const data = response({ case: "stdout", value: { data: Buffer.from("half") } });
  const { failure, output } = await endOf(t, (stream) =>
    finish(stream, { "grpc-status": "0" }, started, data),
  );
  assert.equal(output, "half");
  assert.match(failure?.message ?? "", /ended before its last message/);
});

test("a stream that just stops is a failure, at a message's border and within one", async (t) => {
  for (const bytes of [started, Buffer.concat([started, exit.subarray(0, 6)])]) {
    const { failure } = await endOf(t, (stream) => {
      stream.respond(grpc);
      stream.end(bytes);
    });
    assert.deepEqual(
      [failure?.kind, failure?.message],
      ["unavailable", "the connection to the agent was cut"],
    );
  }
});

test("an agent that says a thing twice, or what it was not asked, is cut", async (t) => {
  const offer = { socket: "/run/other.sock", token: "t" };
  const offering = response({ case: "started", value: { pid: 1n, offer } });
  const carried = response({ case: "carried", value: {} });
  const logsOffer = toBinary(
    LogsResponseSchema,
    create(LogsResponseSchema, { message: { case: "offer", value: offer } }),
  );
  for (const [frames, opened, kind] of [
    [[started, started, exit], 1, sessionStream],
    [[offering, exit], 0, sessionStream],
    [[started, response({ case: "handed", value: {} }), exit], 1, sessionStream],
    [[started, carried, exit], 1, sessionStream],
    [[framed(logsOffer)], 0, logsStream],
  ] as const) {
    const behave = (stream: ServerHttp2Stream): void => finish(stream, { "grpc-status": "0" }, ...frames);
    const { failure, ...end } = await endOf(t, behave, kind);
    assert.match(failure?.message ?? "", /^the agent said what it was not asked, or the same twice$/);
    assert.deepEqual(end, { output: "", opened });
  }
});

test("a reset is a failure", async (t) => {
  const { failure } = await endOf(t, (stream) => {
    stream.respond(grpc);
    stream.write(started);
    stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  });
  assert.equal(failure?.kind, "unavailable");
});

test("a lost connection is a failure", async (t) => {
  const { failure } = await endOf(t, (stream) => {
    stream.respond(grpc);
    stream.write(started, () => stream.session?.destroy());
  });
  assert.equal(failure?.kind, "unavailable");
});

test("a refusal keeps its kind and its text, in trailers or in the header alone", async (t) => {
  const status = {
    "grpc-status": "9",
    "grpc-message": "the container is not %22running%22",
    "sockerless-error-kind": "not-modified",
  };
  const refusals: ((stream: ServerHttp2Stream) => void)[] = [
    (stream) => finish(stream, status),
    (stream) => stream.respond({ ...grpc, ...status }, { endStream: true }),
  ];
  for (const refuse of refusals) {
    const { failure, opened } = await endOf(t, refuse);
    assert.deepEqual(
      [failure, opened],
      [{ kind: "not-modified", message: 'the container is not "running"', exitCode: 0 }, 0],
    );
  }
});

test("anything but gRPC is a failure", async (t) => {
  const busy = await endOf(t, (stream) => stream.respond({ ":status": 503 }, { endStream: true }));
  assert.equal(busy.failure?.kind, "unavailable");
  const page = await endOf(t, (stream) => {
    stream.respond({ ":status": 200, "content-type": "text/html" });
    stream.end("<html>");
  });
  assert.equal(page.failure?.message, "the agent's answer is not gRPC");
});

test("bytes that are no message end the stream with a failure", async (t) => {
  const { failure } = await endOf(t, (stream) => {
    stream.respond(grpc);
    stream.write(Buffer.concat([Buffer.from([0, 0, 0, 0, 4]), Buffer.from("junk")]));
  });
  assert.equal(failure?.kind, "system");
});

test("a log whose end counts more bytes than came is a failure", async (t) => {
  const end = framed(
    toBinary(
      LogsResponseSchema,
      create(LogsResponseSchema, { message: { case: "end", value: { totalBytes: 5n } } }),
    ),
  );
  const { failure } = await endOf(t, (stream) => finish(stream, { "grpc-status": "0" }, end), logsStream);
  assert.match(failure?.message ?? "", /bytes of the stream are missing/);
});

test("an agent behind a backend on another machine may be silent for as long as it may be cut off", () => {
  const relay = { kind: "relay", host: "backend", port: 1, authority: "" } as const;
  assert.ok(silenceLimitMs(relay) > cutLimitMs);
  assert.equal(silenceLimitMs({ kind: "unix", path: "/agent" }), 30_000);
});

test("no heartbeats wait behind input that an agent does not read", async (t) => {
  const connection = await connectionTo(t, () => {});
  const calls: ClientHttp2Stream[] = [];
  const request = connection.request.bind(connection);
  t.mock.method(connection, "request", async (...args: Parameters<typeof request>) => {
    const call = await request(...args);
    calls.push(call);
    return call;
  });
  t.mock.timers.enable({ apis: ["setInterval"] });
  let now = performance.now();
  t.mock.method(performance, "now", () => now);
  const stream = await AgentStream.open(
    connection,
    { ...sessionStream, expectsHeartbeats: false },
    { containerId: undefined, first: encodeOpenExec({}), carriesInput: true },
    { opened: () => {}, outputEnded: () => {}, data: () => {}, ended: () => {}, failed: () => {} },
  );
  const [call] = calls;
  const writes = t.mock.method(call ?? assert.fail(), "write").mock;
  const hour = (): void => {
    for (let seconds = 0; seconds < 3_600; seconds += 2.5) {
      now += 2_500;
      t.mock.timers.tick(2_500);
    }
  };
  await until(() => call?.writableLength === 0 || undefined);
  now += 10_000;
  t.mock.timers.tick(2_500);
  assert.equal(writes.callCount(), 1, "a quiet client has a heartbeat");
  stream.sendInput(new Uint8Array(1024 * 1024), () => {});
  await setImmediate();
  const [sent, waiting] = [writes.callCount(), call?.writableLength];
  hour();
  assert.deepEqual([writes.callCount(), call?.writableLength], [sent, waiting]);
  stream.cancel();
});

for (const [how, calls, end] of [
  ["is cancelled", 1, (stream: AgentStream) => stream.cancel()],
  ["gives way to others whose clients have left", 17, (stream: AgentStream) => stream.leave()],
] as const) {
  test(`input that an agent does not read is dropped with a call that ${how}, and no other call waits behind it`, async (t) => {
    const path = join(scratchDirectory(), "deaf.sock");
    const connections: Socket[] = [];
    const server = createSocketServer((socket) => {
      // Windows of 2 GiB, of which nothing is read.
      const settings = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff];
      socket
        .on("error", () => {})
        .write(Buffer.from([...settings, 0, 0, 4, 8, 0, 0, 0, 0, 0, 0x7f, 0, 0, 0]));
      connections.push(socket);
    });
    await once(server.listen(path), "listening");
    const connection = new AgentConnection({ address: { kind: "unix", path } });
    t.after(() => {
      connection.close();
      connections.map((socket) => socket.destroy());
      server.close();
    });
    const open = async (): Promise<AgentStream> =>
      await AgentStream.open(
        connection,
        sessionStream,
        { containerId: undefined, first: encodeOpenExec({}), carriesInput: true },
        { opened: () => {}, outputEnded: () => {}, data: () => {}, ended: () => {}, failed: () => {} },
      );
    let dropped = 0;
    for (let call = 0; call < calls; call += 1) {
      const stream = await open();
      stream.sendInput(new Uint8Array(1024 * 1024), () => {});
      stream.sendInput(new Uint8Array(1024), () => (dropped += 1));
      await setImmediate();
      end(stream);
    }
    for (let turn = 0; turn < 1_000 && dropped === 0; turn += 1) {
      await setImmediate();
    }
    assert.notEqual(dropped, 0);
    await open();
    await until(() => connections.length === calls + 1 || undefined);
  });
}
