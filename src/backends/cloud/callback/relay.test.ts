import assert from "node:assert/strict";
import { EventEmitter, once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import threads from "node:worker_threads";

import { capturedLogger } from "../testing/captured-logger.ts";
import { Relay } from "./relay.ts";

test("the relay's thread is replaced, however often that fails", async (t) => {
  const made = new EventEmitter();
  let failures = 0;
  /** A thread that listens, unless there is none to be had. */
  class Thread extends EventEmitter {
    constructor() {
      super();
      if (failures > 0) {
        failures -= 1;
        throw new Error("EAGAIN");
      }
      setImmediate(() => {
        this.emit("message", { kind: "listening", address: "tcp://127.0.0.1:1" });
        made.emit("thread", this);
      });
    }

    postMessage(): void {
      setImmediate(() => this.emit("exit", 0));
    }
  }
  const { Worker } = threads;
  Object.assign(threads, { Worker: Thread });
  syncBuiltinESMExports();
  t.after(() => {
    Object.assign(threads, { Worker });
    syncBuiltinESMExports();
  });
  const directory = await mkdtemp(path.join(tmpdir(), "sockerless-relay-"));
  t.after(() => rm(directory, { recursive: true }));

  const first = once(made, "thread");
  const { logger } = capturedLogger();
  const listen = "tcp://127.0.0.1:0";
  await using _relay = await Relay.start({
    ...{ listen, instance: "sockerless/0", callKey: new Uint8Array(32), logger },
    path: path.join(directory, "relay.sock"),
  });
  const [thread] = (await first) as [Thread];
  const next = once(made, "thread", { signal: AbortSignal.timeout(20_000) });
  failures = 1;
  thread.emit("exit", 1);
  await next;
  assert.equal(failures, 0);
});
