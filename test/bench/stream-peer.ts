/** The other processes of the stream benchmark in one: an agent on raw HTTP/2, and a Docker client's raw connection. */
import { once } from "node:events";
import { createServer, type ServerHttp2Stream } from "node:http2";
import { connect } from "node:net";

import { create, toBinary } from "@bufbuild/protobuf";

import {
  encodeBulkHead,
  sessionOutput,
  stdinTag,
  type BulkShape,
} from "../../src/agent-client/bulk-messages.ts";
import { FrameReader } from "../../src/agent-client/frame-reader.ts";
import {
  SessionRequestSchema,
  type SessionResponse,
  SessionResponseSchema,
} from "../../src/gen/sockerless/agent/v1/agent_pb.ts";
import { fromBinary } from "@bufbuild/protobuf";

/** The task to measure. */
export type PeerTask =
  | { readonly kind: "output"; readonly bytes: number }
  | { readonly kind: "input"; readonly bytes: number }
  | { readonly kind: "echo"; readonly keystrokes: number };

/** The measured figures. */
export interface PeerReport {
  readonly received: number;
  readonly medianMs: number;
}

const messageBytes = 64 * 1024;
const stdoutTag = 0x12;
/** `SessionRequest.stdin`, read with the reader that is made for responses. */
const sessionInput: BulkShape = { ...sessionOutput, channelOfTag: new Map([[stdinTag, 1]]) };

const [agentPath = "", clientPath = ""] = process.argv.slice(2);
let task: PeerTask = { kind: "output", bytes: 0 };

function framed(response: Pick<SessionResponse, "message">): Buffer {
  const message = toBinary(SessionResponseSchema, create(SessionResponseSchema, response as SessionResponse));
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

const startedFrame = framed(
  create(SessionResponseSchema, { message: { case: "started", value: { pid: 1n } } }),
);
const exitFrame = framed(create(SessionResponseSchema, { message: { case: "exit", value: { code: 0 } } }));

function serveOutput(stream: ServerHttp2Stream, bytes: number): void {
  const data = Buffer.alloc(messageBytes, "x");
  let sent = 0;
  const send = (): void => {
    while (sent < bytes) {
      stream.cork();
      stream.write(encodeBulkHead(stdoutTag, sent, data.length));
      const room = stream.write(data);
      stream.uncork();
      sent += data.length;
      if (!room) {
        stream.once("drain", send);
        return;
      }
    }
    stream.end(exitFrame);
  };
  send();
}

/** Takes stdin to its end; echoes it where asked to. */
function serveInput(stream: ServerHttp2Stream, echo: boolean): void {
  let echoed = 0;
  const reader = new FrameReader(sessionInput, {
    data: (_, source, start, end) => {
      if (echo) {
        const data = Buffer.from(source.subarray(start, end));
        stream.write(Buffer.concat([encodeBulkHead(stdoutTag, echoed, data.length), data]));
        echoed += data.length;
      }
    },
    message: (bytes) => {
      if (fromBinary(SessionRequestSchema, bytes).message.case === "closeStdin") {
        stream.end(exitFrame);
      }
    },
  });
  stream.on("data", (chunk: Buffer) => reader.push(chunk));
}

/** Plays the client's part of a task. */
async function runClient(current: PeerTask): Promise<PeerReport> {
  const socket = connect({ path: clientPath, allowHalfOpen: true });
  let received = 0;
  const times: number[] = [];
  const ended = once(socket, "end");
  if (current.kind === "echo") {
    for (let index = 0; index < current.keystrokes; index++) {
      const start = performance.now();
      socket.write("k");
      await once(socket, "data");
      times.push(performance.now() - start);
    }
    socket.end();
    socket.resume();
  } else {
    socket.on("data", (chunk) => {
      received += chunk.length;
    });
    if (current.kind === "input") {
      const data = Buffer.alloc(messageBytes, "x");
      for (let sent = 0; sent < current.bytes; sent += data.length) {
        if (!socket.write(data)) {
          await once(socket, "drain");
        }
      }
      socket.end();
    }
  }
  await ended;
  socket.destroy();
  return { received, medianMs: times.sort((a, b) => a - b)[Math.floor(times.length / 2)] ?? 0 };
}

const server = createServer({
  settings: { initialWindowSize: 4 * 1024 * 1024, maxFrameSize: 1024 * 1024 },
});
server.on("session", (session) => session.setLocalWindowSize(16 * 1024 * 1024));
server.on("stream", (stream: ServerHttp2Stream) => {
  stream.respond({ ":status": 200, "content-type": "application/grpc+proto" }, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
  stream.on("error", () => {});
  stream.write(startedFrame);
  if (task.kind === "output") {
    stream.resume();
    serveOutput(stream, task.bytes);
  } else {
    serveInput(stream, task.kind === "echo");
  }
});
process.on("message", (next: PeerTask) => {
  task = next;
  runClient(next).then(
    (report) => process.send?.(report),
    (error: unknown) => {
      console.error(error);
      process.exit(1);
    },
  );
});
server.listen(agentPath, () => {
  connect(clientPath).on("error", () => {});
  process.send?.("ready");
});
