import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { onEndRequested } from "./signals.ts";

/** The calls that a process makes which is asked to end. */
function callsOf(ask: () => void): string[] {
  const calls: string[] = [];
  onEndRequested(
    () => calls.push("first"),
    () => calls.push("again"),
  );
  ask();
  for (const event of ["SIGINT", "SIGTERM", "disconnect"]) {
    process.removeAllListeners(event);
  }
  return calls;
}

describe("a request to end", () => {
  it("is repeated by a later signal, but not by one that comes twice", (t) => {
    t.mock.timers.enable({ apis: ["Date"] });
    const calls = callsOf(() => {
      process.emit("SIGINT", "SIGINT");
      process.emit("SIGINT", "SIGINT");
      t.mock.timers.tick(2000);
      process.emit("SIGTERM", "SIGTERM");
    });
    assert.deepEqual(calls, ["first", "again"]);
  });

  it("is not repeated by the end of the process that forked this one, or of the channel to it", (t) => {
    t.mock.timers.enable({ apis: ["Date"] });
    const calls = callsOf(() => {
      process.emit("SIGTERM", "SIGTERM");
      t.mock.timers.tick(2000);
      process.emit("disconnect");
    });
    assert.deepEqual(calls, ["first"]);
  });

  it("is the end of the process that forked this one", () => {
    assert.deepEqual(
      callsOf(() => process.emit("disconnect")),
      ["first"],
    );
  });
});
