import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { EngineBench } from "../engine-bench.ts";

describe("a volume whose disk is about to be full", () => {
  const bench = EngineBench.ofEach();

  it("is told by an event, which outlives the backend", async () => {
    await bench.volumes.createVolume({ name: "data", driver: "single" });
    await bench.machine.tellShortage?.({ name: "data", free: 5n, growth: 7n });
    await bench.machine.tellShortage?.({ name: "gone", free: 5n, growth: 7n });
    await bench.crashBackend();
    await bench.startBackend();
    const told = await bench.pastEvents({ event: ["low_space"] });
    assert.deepEqual(
      told.map(({ type, actorId, attributes }) => ({ type, actorId, attributes })),
      [
        {
          type: "volume",
          actorId: "data",
          attributes: { driver: "single", free: "5", growth: "7" },
        },
      ],
    );
  });
});
