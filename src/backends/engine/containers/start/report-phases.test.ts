import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";

import { StartedProcessSchema } from "../../../../gen/sockerless/agent/v1/agent_pb.ts";
import type { Launched } from "../../../driver/launches.ts";
import type { EngineContext } from "../../context.ts";
import { StartPhases } from "../live/start-phases.ts";
import { reportProcess } from "./report-phases.ts";

describe("the phases of a process", () => {
  const context = {
    driver: { site: { kind: "at-hand" } },
    state: { events: { listeners: 0 } },
  } as unknown as EngineContext;
  const agentStarted = new Date("2026-11-21T10:00:00Z");
  const started = create(StartedProcessSchema, {
    agentStartedAt: timestampFromDate(agentStarted),
    startedAt: timestampFromDate(new Date("2026-11-21T10:05:00Z")),
  });

  for (const [what, launched, expected] of [
    ["begin with its agent", {}, ["agent", "process"]],
    ["leave out an agent that has served a run before", { reused: true }, ["process"]],
  ] as const) {
    it(what, () => {
      const phases = new StartPhases();
      reportProcess(context, "c", phases, launched as Launched, started);
      assert.deepEqual(
        phases.list.map(({ name }) => name),
        expected,
      );
    });
  }
});
