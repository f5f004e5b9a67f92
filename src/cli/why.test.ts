import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { why } from "./why.ts";

const state = { Status: "running", ExitCode: 0, Error: "" };

describe("why a container starts as it does", () => {
  /** The table of a start's phases, `[name, by, from, until]` in seconds. */
  const table = (...phases: readonly (readonly [string, string, number, number?])[]): string[] => {
    const at = (seconds: number): string =>
      new Date(Date.UTC(2026, 10, 21, 10) + seconds * 1000).toISOString();
    return why({
      Name: "/web",
      State: state,
      StartPhases: phases.map(([Name, By, from, until]) => ({
        ...{ Name, By, From: at(from) },
        ...(until === undefined ? {} : { Until: at(until) }),
      })),
    });
  };
  const asked = [
    ["accepted", "backend", 0],
    ["request", "backend", 0.5, 1],
  ] as const;

  it("lists the phases, each with its time since the start, its duration and its source", () => {
    assert.deepEqual(table(...asked, ["provisioning", "cloud", 0.75, 11], ["process", "agent", 12]), [
      "web is running",
      "Its last start began at 2026-11-21T10:00:00.000Z:",
      "  accepted          +0.000 s              reported by the backend",
      "  request           +0.500 s     0.500 s  reported by the backend",
      "  provisioning      +0.750 s    10.250 s  reported by the cloud",
      "  process          +12.000 s              reported by the agent",
    ]);
  });

  it("tells whether a prepared task served it, or why none did", () => {
    const told = (pool: string | undefined, ...phases: readonly object[]) => {
      const From = new Date(0).toISOString();
      const StartPhases = phases.map((phase) => ({ By: "backend", From, ...phase }));
      return why({ Name: "/web", State: state, StartPhases }, pool).at(-1);
    };
    const pool = "fixed: 0 of at most 10 wait";
    assert.equal(told(pool, { Name: "accepted" }, { Name: "claim" }), "It runs in a prepared task.");
    assert.equal(
      told(pool, { Name: "claim", Note: "it was waited for" }),
      "It runs in a prepared task: it was waited for.",
    );
    assert.equal(
      told(pool, { Name: "unprepared", Note: "none like it is left" }, { Name: "request" }),
      "Not prepared, because none like it is left.",
    );
    assert.equal(told("off", { Name: "request" }), "Not prepared, because pool.mode is off.");
    assert.doesNotMatch(told(undefined, { Name: "request" }) ?? "", /prepared/);
    assert.doesNotMatch(told("off", { Name: "accepted" }) ?? "", /prepared/);
  });

  it("is by one clock and in the order of things, however the other clocks go", () => {
    for (const [cloudBy, agentBy] of [
      [0, 0],
      [-0.5, 0.25],
      [-60, 0],
      [60, -60],
      [0, 60],
      [3600, 3600],
    ] as const) {
      const lines = table(
        ["provisioning", "cloud", 0.75 + cloudBy, 5 + cloudBy],
        ["pull", "cloud", 5 + cloudBy, 9 + cloudBy],
        ["containers", "cloud", 9 + cloudBy, 12 + cloudBy],
        ["agent", "agent", 10 + agentBy, 10.5 + agentBy],
        ["process", "agent", 10.5 + agentBy],
        ...asked,
      ).slice(2);
      const rows = lines.map((line) => /^ +(\w+) +\+([\d.]+) s/.exec(line)).filter((row) => row !== null);
      assert.deepEqual(
        rows.map(([, name]) => name),
        ["accepted", "request", "provisioning", "pull", "containers", "agent", "process"],
      );
      const begins = Object.fromEntries(rows.map(([, name = "", at]) => [name, Number(at)]));
      const { provisioning = 0, agent = 0, process = 0 } = begins;
      assert.ok(provisioning >= 0.5 && provisioning <= 1, `${provisioning}`);
      assert.ok(agent >= provisioning + 8.25 && agent <= provisioning + 11.25 && process <= 13, `${agent}`);
      assert.equal(
        lines.length - rows.length,
        [cloudBy, agentBy].filter((by) => Math.abs(by) > 1).length,
        "clocks that differ are told",
      );
    }
    assert.equal(
      table(...asked, ["provisioning", "cloud", -60]).at(-1),
      "The cloud's clock is at least 60.500 s behind the backend's: its times are moved by that.",
    );
  });

  it("shows the cause of a wait or a failure", () => {
    const waits = { ...state, Status: "created", Error: "waits to be started: no room" };
    assert.deepEqual(why({ Name: "/web", State: waits }), [
      "web is created: waits to be started: no room",
      "It was never started.",
    ]);
    const failed = { Status: "exited", ExitCode: 128, Error: "no such image" };
    assert.equal(why({ Name: "/web", State: failed })[0], "web is exited (128): no such image");
  });
});
