import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { ManualClock } from "../../../src/common/manual-clock.ts";
import { Phase } from "../../../src/gen/sockerless/state/v1/state_pb.ts";
import { untilTrue } from "../../support/until.ts";
import { EngineBench } from "../engine-bench.ts";

describe("a container with --rm that was made and not started when the backend died", () => {
  let clock: ManualClock;
  const bench = EngineBench.ofEach(() => {
    clock = new ManualClock(Date.now());
    return { clock };
  });

  const withRm = { hostConfig: { autoRemove: true } };
  const isThere = (id: string) => bench.state.containers.has(id);

  it("goes a minute after the next one serves, with its destroy event, and others stay", async () => {
    const id = await bench.createScript("exec sleep 1000", withRm);
    const other = await bench.createScript("exec sleep 1000");
    await bench.stopBackend();
    await bench.startBackend();
    const later = await bench.createScript("exec sleep 1000", withRm);
    await clock.advance(59_999);
    assert.ok(isThere(id));
    await clock.advance(1);
    await untilTrue(() => !isThere(id));
    const destroyed = bench.state.events.past().filter((event) => event.action === "destroy");
    assert.deepEqual(
      destroyed.map((event) => event.actorId),
      [id],
    );
    assert.ok(isThere(other) && isThere(later));
  });

  it("goes one after the other where there are many", async () => {
    await Promise.all(Array.from({ length: 8 }, () => bench.createScript("exec sleep 1000", withRm)));
    await bench.stopBackend();
    await bench.startBackend();
    const underWay = (): number =>
      [...bench.state.containers.values()].filter(({ phase }) => phase === Phase.REMOVING).length;
    let atFirst: number | undefined;
    bench.state.events.listen(({ action }) => {
      atFirst ??= action === "destroy" ? underWay() : undefined;
    });
    await clock.advance(60_000);
    await untilTrue(() => bench.state.containers.size === 0);
    assert.equal(atFirst, 1);
  });

  it("stays when somebody has started it by then, and goes with its end", async () => {
    const id = await bench.createScript("exec sleep 1000", withRm);
    const idle = await bench.createScript("exec sleep 1000", withRm);
    await bench.stopBackend();
    await bench.startBackend();
    await bench.containers.startContainer({ container: id });
    await clock.advance(60_000);
    await untilTrue(() => !isThere(idle));
    assert.ok(isThere(id));
    await bench.containers.killContainer({ container: id });
    await untilTrue(() => !isThere(id));
  });

  it("has its minute anew when the backend dies in it", async () => {
    const id = await bench.createScript("exec sleep 1000", withRm);
    await bench.stopBackend();
    await bench.startBackend();
    await clock.advance(40_000);
    await bench.stopBackend();
    await bench.startBackend();
    await clock.advance(40_000);
    assert.ok(isThere(id));
    await clock.advance(20_000);
    await untilTrue(() => !isThere(id));
  });
});
