import assert from "node:assert/strict";
import { test } from "node:test";

import { isLoopback } from "./loopback.ts";

test("a loopback address is one that only this machine reaches", () => {
  for (const address of [
    "tcp://127.0.0.1:9323",
    "tcp://127.1.2.3:1",
    "tcp://[::1]:9323",
    "tcp://localhost:9323",
  ]) {
    assert.ok(isLoopback(address), address);
  }
  for (const address of [
    "tcp://:9323",
    "tcp://0.0.0.0:9323",
    "tcp://[::]:9323",
    "tcp://10.0.0.1:1",
    "tcp://localhost.example.com:1",
    "tcp://127.0.0.1.example.com:1",
  ]) {
    assert.ok(!isLoopback(address), address);
  }
});
