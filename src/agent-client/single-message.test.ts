import assert from "node:assert/strict";
import { test } from "node:test";

import { Code } from "@connectrpc/connect";

import { framed } from "./grpc-request.ts";
import { SingleMessage } from "./single-message.ts";

const limit = 4 * 1024 * 1024;
const refused = (code: Code) => ({ code });

function read(bytes: Uint8Array, pieceLength: number): Uint8Array {
  const message = new SingleMessage(limit);
  for (let at = 0; at < bytes.length; at += pieceLength) {
    message.push(bytes.subarray(at, at + pieceLength));
  }
  return message.end();
}

test("a message is the same however it is cut", () => {
  for (const length of [0, 1, 4, 5, 6, 300]) {
    const message = new Uint8Array(length).map((_, index) => index);
    for (const pieceLength of [1, 2, 4, 5, 6, 7, 1000]) {
      assert.deepEqual(read(framed(message), pieceLength), message);
    }
  }
});

test("the largest message may come byte by byte", () => {
  const message = new Uint8Array(limit).map((_, index) => index);
  assert.equal(Buffer.compare(read(framed(message), 1), message), 0);
});

test("a message is refused by the length that it announces, before anything of it is there", () => {
  const prefix = Buffer.from([0, 0, 0, 0, 0]);
  prefix.writeUInt32BE(limit + 1, 1);
  const message = new SingleMessage(limit);
  message.push(prefix.subarray(0, 4));
  assert.throws(() => message.push(prefix.subarray(4)), refused(Code.ResourceExhausted));
});

test("what follows the message is refused as it comes", () => {
  const message = new SingleMessage(limit);
  message.push(framed(Buffer.from("all")));
  assert.throws(() => message.push(Buffer.from([0])), refused(Code.Unimplemented));
});

test("less than a message is none, and a compressed one is not understood", () => {
  const whole = framed(Buffer.from("all"));
  for (const length of [0, 4, 5, 7]) {
    assert.throws(() => read(whole.subarray(0, length), 1), refused(Code.Unimplemented));
  }
  whole[0] = 1;
  assert.throws(() => read(whole, 1), refused(Code.DataLoss));
});
