import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { reachesInside } from "./internals.ts";

describe("sources that reach into their runtime", () => {
  it("are known by the members, directives and packages that they use", () => {
    for (const [file, source] of [
      ["src/a.ts", "const { _handle: handle } = server;"],
      ["src/a.ts", "socket._write = drop;"],
      ["src/a.ts", "parser.onIncoming = take;"],
      ["src/a.ts", 'import { setFlagsFromString } from "node:v8";'],
      ["src/a.ts", 'process.getBuiltinModule("node:ffi");'],
      ["src/a.ts", "globalThis.gc?.();"],
      ["agent/a.go", '//go:linkname now runtime.nanotime\nimport _ "unsafe"'],
      ["agent/a.go", "syscall.RawSyscall(1, 2, 3)"],
    ] as const) {
      assert.ok(reachesInside(file, source), source);
    }
  });

  it("are neither tests nor generated, and private members of our own are none", () => {
    for (const [file, source] of [
      ["src/a.test.ts", "socket._handle"],
      ["src/gen/a.ts", "socket._handle"],
      ["src/a.ts", "const read = (_path: string) => this.#write(path);"],
    ] as const) {
      assert.ok(!reachesInside(file, source), source);
    }
  });
});
