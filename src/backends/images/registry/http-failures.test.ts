import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { unreachable } from "./http-failures.ts";

const url = new URL("https://registry.example.com/v2/");

describe("a connection failure is reported in Go's words", () => {
  for (const [code, text] of [
    ["ECONNREFUSED", "dial tcp registry.example.com:443: connect: connection refused"],
    ["ENOTFOUND", "dial tcp: lookup registry.example.com: no such host"],
    ["ETIMEDOUT", "dial tcp registry.example.com:443: i/o timeout"],
    ["EPROTO", "http: server gave HTTP response to HTTPS client"],
    [
      "SELF_SIGNED_CERT_IN_CHAIN",
      "tls: failed to verify certificate: x509: certificate signed by unknown authority",
    ],
    ["EOTHER", "what Node says"],
  ] as const) {
    it(code, () => {
      const error = Object.assign(new Error("what Node says"), { code });
      assert.equal(unreachable("GET", url, error).message, `Get "https://registry.example.com/v2/": ${text}`);
    });
  }
});
