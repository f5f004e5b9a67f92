import assert from "node:assert/strict";
import { test } from "node:test";

import { onAbort } from "../../common/on-abort.ts";
import { DatagramQueue, openDatagramTunnel } from "./datagram-tunnel.ts";

const datagram = Buffer.alloc(60_000);

function push(queue: DatagramQueue): void {
  for (let count = 0; count < 64; count++) {
    queue.push(datagram);
  }
}

test("the datagrams that wait of all flows take 16 MiB, and one of each", () => {
  const queues = Array.from({ length: 300 }, () => new DatagramQueue());
  queues.forEach(push);
  const all = queues.reduce((sum, { bytes }) => sum + bytes, 0);
  assert.ok(all <= 16 * 1024 * 1024 + queues.length * 64 * 1024, `${all} bytes`);
  assert.ok(queues.every(({ bytes }) => bytes >= datagram.length));
  for (const queue of queues) {
    queue[Symbol.dispose]();
    queue.push(datagram);
    assert.equal(queue.bytes, 0);
  }
  using after = new DatagramQueue();
  push(after);
  assert.equal(after.bytes, 8 * datagram.length);
});

test("a datagram that was sent counts no more", async () => {
  using queue = new DatagramQueue();
  const requests = queue.requests({} as never, new AbortController().signal);
  await requests.next();
  for (let count = 0; count < 20; count++) {
    queue.push(datagram);
    await requests.next();
    assert.equal(queue.bytes, 0);
  }
});

test("an exchange whose place is being looked up ends as it is closed", async () => {
  const ended = Promise.withResolvers<unknown>();
  const flow = openDatagramTunnel({
    place: (closed) =>
      new Promise((_, reject) => {
        onAbort(closed, () => reject(new Error("it has left")));
      }),
    answer: () => {},
    ended: ended.resolve,
  });
  flow.send(datagram);
  flow.close();
  assert.equal(await ended.promise, undefined);
});
