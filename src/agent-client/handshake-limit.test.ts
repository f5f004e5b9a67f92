import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { HandshakeLimit, longestHandshake } from "./handshake-limit.ts";

const [changeCipherSpec, handshake, applicationData] = [20, 22, 23];

function record(type: number, length: number): Buffer {
  // Its content looks like the header of an encrypted record.
  return Buffer.concat([Buffer.from([type, 3, 3, length >> 8, length & 255]), Buffer.alloc(length, 23)]);
}

function limitAfter(...chunks: readonly Uint8Array[]): HandshakeLimit {
  const limit = new HandshakeLimit();
  for (const chunk of chunks) {
    limit.noteSent(chunk);
  }
  return limit;
}

describe("the limit of a handshake", () => {
  it("lets through what is as long as may be, and no byte more, in however many pieces", () => {
    const limit = limitAfter(record(handshake, 300));
    for (let bytes = 0; bytes < longestHandshake; bytes += 512) {
      assert.ok(limit.noteReceived(512));
    }
    assert.ok(!limit.noteReceived(1));
    assert.ok(!limitAfter().noteReceived(longestHandshake + 1), "before the client has said anything");
  });

  it("is lifted by the client's first encrypted record, and then for good", () => {
    const limit = limitAfter(record(handshake, 300));
    assert.ok(limit.noteReceived(longestHandshake));
    limit.noteSent(record(applicationData, 60));
    assert.ok(limit.isLifted);
    assert.ok(limit.noteReceived(100_000_000));
    limit.noteSent(record(handshake, 300));
    assert.ok(limit.noteReceived(1));
  });

  it("is not lifted by a second ClientHello, nor by empty records", () => {
    const hello = record(handshake, 600);
    const limit = limitAfter(hello, record(changeCipherSpec, 1), hello, record(handshake, 0));
    assert.ok(!limit.isLifted);
    assert.ok(!limit.noteReceived(longestHandshake + 1));
  });

  it("finds records wherever they are cut", () => {
    const flights = Buffer.concat([
      record(handshake, 600),
      record(changeCipherSpec, 1),
      record(handshake, 0),
      record(handshake, 0x0203),
    ]);
    const last = record(applicationData, 60);
    for (const size of [1, 2, 3, 4, 5, 7, 300, 605, 606, flights.length]) {
      const limit = new HandshakeLimit();
      for (let at = 0; at < flights.length; at += size) {
        limit.noteSent(flights.subarray(at, at + size));
      }
      assert.ok(!limit.isLifted, `pieces of ${size}`);
      limit.noteSent(last.subarray(0, 1));
      assert.ok(limit.isLifted, `pieces of ${size}`);
    }
    assert.ok(limitAfter(Buffer.concat([flights, last])).isLifted);
  });

  it("does not hold for what is no TLS, such as a link", () => {
    const opening = Buffer.alloc(25, 22);
    opening[0] = 1;
    assert.ok(limitAfter(opening).isLifted);
  });
});
