import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { parseChallenges } from "./auth-challenge.ts";

const read = (header: string) =>
  parseChallenges(header).map(({ scheme, parameters }) => ({ scheme, ...Object.fromEntries(parameters) }));

describe("a challenge", () => {
  for (const [header, expected] of [
    ["", []],
    ["Basic", [{ scheme: "basic" }]],
    ['Basic realm="a b"', [{ scheme: "basic", realm: "a b" }]],
    [
      'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push"',
      [
        {
          scheme: "bearer",
          realm: "https://auth.docker.io/token",
          service: "registry.docker.io",
          scope: "repository:a/b:pull,push",
        },
      ],
    ],
    ["Bearer Realm = x , error=invalid_token", [{ scheme: "bearer", realm: "x", error: "invalid_token" }]],
    ['Bearer realm="say \\"hi\\""', [{ scheme: "bearer", realm: 'say "hi"' }]],
    [
      'Basic realm="x", Bearer realm="y"',
      [
        { scheme: "basic", realm: "x" },
        { scheme: "bearer", realm: "y" },
      ],
    ],
    ['Bearer realm="unclosed', [{ scheme: "bearer" }]],
    [`Bearer ${",".repeat(100_000)}`, [{ scheme: "bearer" }]],
  ] as const) {
    it(JSON.stringify(header.slice(0, 60)), () => {
      assert.deepEqual(read(header), expected);
    });
  }

  it("that is blank takes no longer than others", () => {
    const before = process.threadCpuUsage();
    for (let n = 0; n < 50; n++) {
      assert.deepEqual(read(`Bearer${" ".repeat(8_150)}"`), [{ scheme: "bearer" }]);
    }
    const { user } = process.threadCpuUsage(before);
    assert.ok(user < 1_000_000, `${user} µs`); // Each of n starts tried for each of n ends: 9 s
  });
});
