import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { why } from "./why.ts";

const state = { Status: "running", ExitCode: 0, Error: "" };

describe("why a container starts as it does", () => {
  it("is its phases, each from the begin of the start, with its length and whose clock it is by", () => {
    const lines = why({
      Name: "/web",
      State: state,
      StartPhases: [
        { Name: "accepted", By: "backend", From: "2026-11-21T10:00:00.000000000Z" },
        {
          Name: "pull",
          By: "cloud",
          From: "2026-11-21T10:00:11.2Z",
          Until: "2026-11-21T10:00:19.25Z",
        },
      ],
    });
    assert.deepEqual(lines, [
      "web is running",
      "Its last start began at 2026-11-21T10:00:00.000000000Z:",
      "  accepted      +0.000 s              the backend's clock",
      "  pull         +11.200 s     8.050 s  the cloud's clock",
    ]);
  });

  it("counts from when the start was accepted, also where another clock is behind", () => {
    const lines = why({
      Name: "/web",
      State: state,
      StartPhases: [
        { Name: "provisioning", By: "cloud", From: "2026-11-21T09:59:59.750Z" },
        { Name: "accepted", By: "backend", From: "2026-11-21T10:00:00Z" },
        { Name: "process", By: "agent", From: "2026-11-21T10:00:09Z" },
      ],
    });
    assert.deepEqual(lines.slice(1), [
      "Its last start began at 2026-11-21T10:00:00Z:",
      "  provisioning      -0.250 s              the cloud's clock",
      "  accepted          +0.000 s              the backend's clock",
      "  process           +9.000 s              the agent's clock",
    ]);
  });

  it("is what it waits for, or what has failed", () => {
    const waits = { ...state, Status: "created", Error: "waits to be started: no room" };
    assert.deepEqual(why({ Name: "/web", State: waits }), [
      "web is created: waits to be started: no room",
      "It was never started.",
    ]);
    const failed = { Status: "exited", ExitCode: 128, Error: "no such image" };
    assert.equal(why({ Name: "/web", State: failed })[0], "web is exited (128): no such image");
  });
});
