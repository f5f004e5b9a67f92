import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { DialFailure } from "./dialer.ts";
import { unreachable } from "./http-failures.ts";

const url = new URL("https://registry.example.com/v2/");

describe("a failure is reported in Go's words", () => {
  for (const [name, error, text] of [
    ["of a dial", new DialFailure("dial tcp 127.0.0.1:1: connect: connection refused", "ECONNREFUSED"), ""],
    ["of a silent server", withCode("ETIMEDOUT"), "dial tcp registry.example.com:443: i/o timeout"],
    ["of a connection", withCode("ECONNRESET"), "read: connection reset by peer"],
    ["of another kind", withCode("EOTHER"), "what Node says"],
  ] as const) {
    it(name, () => {
      const { message } = unreachable("GET", url, error);
      assert.equal(message, `Get "https://registry.example.com/v2/": ${text || error.message}`);
    });
  }
});

function withCode(code: string): Error {
  return Object.assign(new Error("what Node says"), { code });
}
