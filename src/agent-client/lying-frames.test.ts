/**
 * An agent that was taken over speaks HTTP/2 itself: whatever frames it writes without end, they cost its client little
 * memory. Those that cost any, or more time than bytes do, end the session.
 */
import assert from "node:assert/strict";
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { makeCertificates } from "../../test/support/certificates.ts";
import { flags, frame, FrameLiar, frameTypes, type Lie, type Script } from "../../test/support/frame-liar.ts";
import type { Ended } from "../../test/support/lied-to-client.ts";
import { scratchDirectory } from "../../test/support/scratch.ts";

/** Bytes that a lie may cost at once, what waits to be collected included. */
const memoryLimit = 48 * 1024 * 1024;
/** The largest frame that a client takes. */
const largest = 1024 * 1024;
/** Bytes of a lie that its hearer has to notice. */
const noticed = 32 * 1024 * 1024;

const directory = scratchDirectory();
let liar: FrameLiar;
let client: ChildProcess;

before(async () => {
  const { server, client: files } = await makeCertificates(directory);
  liar = new FrameLiar(server);
  const port = await liar.listen();
  const program = new URL("../../test/support/lied-to-client.js", import.meta.url);
  client = fork(program, [String(port), files.ca, files.cert, files.key]);
  // The first call is what loads and compiles the client.
  await hear({ answer: endless(repeated(ping)), length: noticed });
});
after(async () => {
  client.kill();
  await liar.close();
});

async function hear(script: Script): Promise<Ended> {
  liar.tell(script);
  client.send(0);
  const [ended] = (await once(client, "message")) as [Ended];
  return ended;
}

const repeated = (bytes: Buffer, times = 1000): Buffer => Buffer.concat(Array<Buffer>(times).fill(bytes));
const numbers = (...values: readonly number[]): Buffer =>
  Buffer.concat(
    values.map((value) => {
      const bytes = Buffer.alloc(4);
      bytes.writeUInt32BE(value);
      return bytes;
    }),
  );
const numbered = (make: (index: number) => Buffer, times = 1000): Buffer =>
  Buffer.concat(Array.from({ length: times }, (_, index) => make(index)));

/** A header in HPACK, neither indexed nor compressed; both shorter than 127 bytes. */
function header(name: string, value: string): Buffer {
  return Buffer.concat([
    Buffer.from([0, name.length]),
    Buffer.from(name),
    Buffer.from([value.length]),
    Buffer.from(value),
  ]);
}

function setting(id: number, value: number): Buffer {
  return Buffer.concat([Buffer.from([0, id]), numbers(value)]);
}

/** Puts `a: aaa…` of some 4 KB into the table of headers; each byte of {@link fromTable} is all of it again. */
const intoTable = Buffer.concat([
  Buffer.from([0x40, 1, 0x61, 0x7f, 0x80 + ((4000 - 127) % 128), Math.floor((4000 - 127) / 128)]),
  Buffer.alloc(4000, 0x61),
]);
const fromTable = (times: number): Buffer => Buffer.alloc(times, 0xbe);

const informational = header(":status", "103");
const grpc = Buffer.concat([header(":status", "200"), header("content-type", "application/grpc+proto")]);
const ping = frame(frameTypes.ping, 0, 0, Buffer.alloc(8));
const answer = (stream: number): Buffer => frame(frameTypes.headers, flags.end, stream, grpc);
const answered = (stream: number, endless: Buffer): Lie => ({ first: answer(stream), endless });
const endless = (bytes: Buffer): (() => Lie) => {
  return () => ({ endless: bytes });
};
/** On no stream; the head says more than comes. */
const longHead = (type: number): Buffer => frame(type, 0, 0, Buffer.alloc(0), 0xff_ffff);

/** Lies that end the session. */
const ending: Readonly<Record<string, (stream: number) => Lie>> = {
  "informational answers": (stream) => ({
    endless: repeated(frame(frameTypes.headers, flags.end, stream, informational)),
  }),
  "informational answers with headers": (stream) => {
    const headers = Buffer.concat([informational, repeated(header("x", "y".repeat(100)), 20)]);
    return { endless: repeated(frame(frameTypes.headers, flags.end, stream, headers), 100) };
  },
  "informational answers from the table": (stream) => ({
    first: frame(frameTypes.headers, flags.end, stream, Buffer.concat([informational, intoTable])),
    endless: repeated(
      frame(frameTypes.headers, flags.end, stream, Buffer.concat([informational, fromTable(15)])),
      100,
    ),
  }),
  pings: endless(repeated(ping)),
  "answers to no ping": endless(repeated(frame(frameTypes.ping, flags.ack, 0, Buffer.alloc(8)))),
  settings: endless(repeated(frame(frameTypes.settings, 0, 0, setting(4, 65_535)))),
  "empty settings": endless(repeated(frame(frameTypes.settings, 0, 0))),
  "settings of a megabyte": endless(
    frame(frameTypes.settings, 0, 0, repeated(setting(4, 65_535), Math.floor(largest / 6))),
  ),
  "unknown settings": endless(
    repeated(
      frame(
        frameTypes.settings,
        0,
        0,
        numbered((index) => setting(0x7f00 + index, index), 100),
      ),
      10,
    ),
  ),
  "answers to no settings": endless(repeated(frame(frameTypes.settings, flags.ack, 0))),
  "a window of 2^31": endless(repeated(frame(frameTypes.settings, 0, 0, setting(4, 0x8000_0000)))),
  "tables of 4 GiB": endless(repeated(frame(frameTypes.settings, 0, 0, setting(1, 0xffff_ffff)))),
  continuations: (stream) => ({
    first: frame(frameTypes.headers, 0, stream, grpc),
    endless: repeated(frame(frameTypes.continuation, 0, stream, header("x", "y".repeat(100)))),
  }),
  "empty continuations": (stream) => ({
    first: frame(frameTypes.headers, 0, stream, grpc),
    endless: repeated(frame(frameTypes.continuation, 0, stream)),
  }),
  "table sizes in continuations": (stream) => ({
    first: frame(frameTypes.headers, 0, stream, grpc),
    endless: repeated(frame(frameTypes.continuation, 0, stream, Buffer.alloc(100, 0x20))),
  }),
  "headers from the table": (stream) => ({
    first: frame(frameTypes.headers, 0, stream, Buffer.concat([grpc, intoTable])),
    endless: repeated(frame(frameTypes.continuation, 0, stream, fromTable(1000)), 10),
  }),
  "headers of a megabyte from the table": (stream) => ({
    first: frame(frameTypes.headers, 0, stream, Buffer.concat([grpc, intoTable])),
    endless: frame(frameTypes.continuation, 0, stream, fromTable(largest)),
  }),
  "empty data": (stream) => answered(stream, repeated(frame(frameTypes.data, 0, stream))),
  "data before an answer": (stream) => ({
    endless: repeated(frame(frameTypes.data, 0, stream, Buffer.alloc(1))),
  }),
  "data behind a reset": (stream) => ({
    first: Buffer.concat([answer(stream), frame(frameTypes.reset, 0, stream, numbers(0))]),
    endless: repeated(frame(frameTypes.data, 0, stream, Buffer.alloc(1))),
  }),
  "empty data behind a reset": (stream) => ({
    first: Buffer.concat([answer(stream), frame(frameTypes.reset, 0, stream, numbers(0))]),
    endless: repeated(frame(frameTypes.data, 0, stream)),
  }),
  "empty messages": (stream) =>
    answered(stream, repeated(frame(frameTypes.data, 0, stream, Buffer.alloc(5)))),
  "messages of empty output": (stream) => {
    const outputs = repeated(Buffer.from([0, 0, 0, 0, 4, 0x12, 2, 0x12, 0]));
    return { ...answered(stream, frame(frameTypes.data, 0, stream, outputs)), data: outputs.length };
  },
  "empty messages in frames of one byte": (stream) =>
    answered(stream, repeated(frame(frameTypes.data, 0, stream, Buffer.alloc(1)))),
  "a frame of 2^24 bytes": (stream) =>
    answered(stream, frame(frameTypes.data, 0, stream, Buffer.alloc(16_000), 0xff_ffff)),
  "a message of 2^31 bytes": (stream) => ({
    first: Buffer.concat([answer(stream), frame(frameTypes.data, 0, stream, Buffer.from([0, 128, 0, 0, 0]))]),
    endless: repeated(frame(frameTypes.data, 0, stream, Buffer.alloc(1000)), 60),
  }),
  "a message of 2^32 bytes": (stream) => ({
    first: Buffer.concat([
      answer(stream),
      frame(frameTypes.data, 0, stream, Buffer.from([0, 255, 255, 255, 255])),
    ]),
    endless: repeated(frame(frameTypes.data, 0, stream, Buffer.alloc(1000)), 60),
  }),
  pushes: (stream) => ({
    endless: repeated(frame(frameTypes.push, flags.end, stream, Buffer.concat([numbers(2), grpc]))),
  }),
  "answers on streams of its own": endless(
    numbered((index) => frame(frameTypes.headers, flags.end, 2 * index + 2, grpc)),
  ),
  "answers on streams to come": endless(
    numbered((index) => frame(frameTypes.headers, flags.end, 2 * index + 1001, grpc)),
  ),
  "windows beyond 2^31": endless(repeated(frame(frameTypes.window, 0, 0, numbers(0x7fff_ffff)))),
  "windows by nothing": (stream) => ({ endless: repeated(frame(frameTypes.window, 0, stream, numbers(0))) }),
  priorities: (stream) => ({ endless: repeated(frame(frameTypes.priority, 0, stream, Buffer.alloc(5))) }),
  "priorities of other streams": endless(
    numbered((index) => frame(frameTypes.priority, 0, 2 * index + 101, Buffer.alloc(5))),
  ),
  "updates of priorities": endless(
    repeated(frame(frameTypes.priorityUpdate, 0, 0, Buffer.concat([numbers(1), Buffer.from("u=1")]))),
  ),
  "unknown frames": endless(repeated(frame(frameTypes.unknown, 0, 0, Buffer.alloc(10)))),
  "an unknown frame of 2^24 bytes": () => ({
    first: longHead(frameTypes.unknown),
    endless: Buffer.alloc(65_536),
  }),
  "other services": endless(
    repeated(frame(frameTypes.altsvc, 0, 0, Buffer.concat([Buffer.from([0, 1]), Buffer.from("ah2=x")]))),
  ),
  origins: endless(
    numbered((index) => {
      const origin = Buffer.from(`https://${index}`);
      return frame(frameTypes.origin, 0, 0, Buffer.concat([Buffer.from([0, origin.length]), origin]));
    }),
  ),
  goodbyes: endless(repeated(frame(frameTypes.goaway, 0, 0, numbers(0x7fff_ffff, 0)))),
  "goodbyes of a megabyte": endless(
    frame(frameTypes.goaway, 0, 0, Buffer.concat([numbers(0x7fff_ffff, 0), Buffer.alloc(largest - 8)])),
  ),
  resets: (stream) => ({ endless: repeated(frame(frameTypes.reset, 0, stream, numbers(8))) }),
  "resets of other streams": endless(
    numbered((index) => frame(frameTypes.reset, 0, 2 * index + 101, numbers(8))),
  ),
  "trailers that end nothing": (stream) =>
    answered(stream, repeated(frame(frameTypes.headers, flags.end, stream, header("x", "y")))),
  "trailers again": (stream) =>
    answered(
      stream,
      repeated(frame(frameTypes.headers, flags.end | flags.endStream, stream, header("x", "y"))),
    ),
  noise: endless(repeated(Buffer.from("HTTP/1.1 200 OK\r\n\r\n"))),
};

/** Lies that go on as long as the agent likes, or until its silence is noticed, and cost only time. */
const borne: Readonly<Record<string, readonly [(stream: number) => Lie, length: number]>> = {
  "empty data with padding": [
    (stream) => {
      const padding = Buffer.concat([Buffer.from([255]), Buffer.alloc(255)]);
      return answered(stream, repeated(frame(frameTypes.data, flags.padded, stream, padding)));
    },
    4 * noticed,
  ],
  "windows of the session": [
    (stream) => answered(stream, repeated(frame(frameTypes.window, 0, 0, numbers(1)))),
    noticed,
  ],
  "windows of the stream": [
    (stream) => answered(stream, repeated(frame(frameTypes.window, 0, stream, numbers(1)))),
    noticed,
  ],
};

test("TLS records of one byte without end: the agent is left", async () => {
  const windows = repeated(frame(frameTypes.window, 0, 0, numbers(1)), 10);
  const begun = performance.now();
  const { told } = await hear({
    answer: (stream) => ({ ...answered(stream, windows), inBytes: true }),
    length: noticed,
  });
  assert.match(told, /the connection to the agent broke/);
  assert.ok(performance.now() - begun < 20_000, "long before its silence is noticed");
});

for (const [name, lie] of Object.entries(ending)) {
  test(`${name} without end: the agent is left`, async () => {
    const { told, grown } = await hear({ answer: lie, length: noticed });
    assert.match(told, /"message":/);
    assert.ok(liar.sent < noticed, told);
    assert.ok(grown < memoryLimit, `${grown} bytes`);
  });
}

for (const [name, [lie, length]] of Object.entries(borne)) {
  test(`${name} without end cost an agent's client no memory`, async () => {
    const { told, grown } = await hear({ answer: lie, length });
    assert.match(told, /"message":/);
    assert.ok(grown < memoryLimit, `${grown} bytes`);
  });
}

for (const [name, settings] of Object.entries({
  "that it takes no stream": frame(frameTypes.settings, 0, 0, setting(3, 0)),
  "goodbye first": Buffer.concat([
    frame(frameTypes.settings, 0, 0),
    frame(frameTypes.goaway, 0, 0, numbers(0x7fff_ffff, 0)),
  ]),
})) {
  test(`an agent that says ${name} is called once`, async () => {
    const { told } = await hear({ settings, answer: endless(ping), length: noticed });
    assert.match(told, /cannot reach|"message":/);
    assert.equal(liar.connections, 1);
  });
}

test("frames of one byte without end, as far as the windows allow: some ten thousand a second are taken", async () => {
  const frames = repeated(frame(frameTypes.data, 0, 1, Buffer.alloc(1)));
  // A message of 999,999 bytes of output.
  const begun = [...numbers(1_000_007), 0x12, 0xc3, 0x84, 0x3d, 0x12, 0xbf, 0x84, 0x3d];
  const message = frame(frameTypes.data, 0, 1, Buffer.from([0, ...begun]));
  liar.tell({
    answer: (stream) => ({ first: Buffer.concat([answer(stream), message]), endless: frames, data: 1_000 }),
    length: Number.POSITIVE_INFINITY,
  });
  let isOver = false;
  client.once("message", () => {
    isOver = true;
  });
  client.send(256 * 1024);
  while (liar.sent === 0) {
    await sleep(10);
  }
  await sleep(4_000);
  assert.ok(liar.sent < 400_000 * 10, `${liar.sent / 10} frames`);
  assert.ok(!isOver, "slowed, and not left");
});
