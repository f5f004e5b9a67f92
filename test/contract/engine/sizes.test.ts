import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import path from "node:path";
import { after, before, describe, it, mock } from "node:test";
import { setTimeout } from "node:timers/promises";

import { ManualClock } from "../../../src/common/manual-clock.ts";
import { serveAgent } from "../../support/scripted-agent.ts";
import { untilTrue } from "../../support/until.ts";
import { EngineBench } from "../engine-bench.ts";

describe("a listing with sizes of containers whose agents do not answer", () => {
  const count = 40;
  let bench: EngineBench;
  let clock: ManualClock;
  let silent: Server;
  const connections: Socket[] = [];
  /** Agents that will answer no more. */
  let failures = 0;
  before(async () => {
    clock = new ManualClock(Date.now());
    bench = await EngineBench.start({ cloud: true, clock });
    for (let n = 0; n < count; n++) {
      await bench.createScript("true");
    }
    silent = createServer((socket) => void connections.push(socket.on("error", () => {}).resume()));
    const socket = path.join(bench.machine.directory, "silent");
    await once(silent.listen(socket), "listening");
    const { logger } = bench.engine.context;
    mock.method(logger, "debug", (_fields: object, text: string) => {
      failures += /the size of a container is not known/.test(text) ? 1 : 0;
    });
    bench.engine.context.driver.workloads.stored = () => ({ kind: "unix", path: socket });
  });
  after(async () => {
    for (const connection of connections) {
      connection.destroy();
    }
    silent?.close();
    await bench?.close();
  });

  const list = async (): Promise<void> => {
    const { containers } = await bench.containers.listContainers({ all: true, size: true });
    assert.equal(containers.length, count);
    assert.ok(containers.every(({ sizeRw }) => sizeRw === undefined));
  };
  /** Lists, while so much time goes by and no more, and answers how many were asked. */
  const listWithin = async (limitMs: number): Promise<number> => {
    const before = connections.length;
    const listing = list();
    await untilTrue(() => connections.length > before);
    for (let passedMs = 0; passedMs < limitMs; passedMs += 50) {
      await clock.advance(50);
    }
    await listing;
    assert.equal(failures, 0, "it has not waited for the clock on the wall");
    return connections.length - before;
  };

  it("asks all of them, and takes as long as one", async () => {
    assert.equal(await listWithin(10_000), count);
  });

  it("does not wait for the same ones again", async () => {
    await clock.advance(2_000); // Also those that were asked last have had their time.
    const before = connections.length;
    await list();
    assert.equal(connections.length, before);
  });

  it("asks again later those that have failed, and does not wait as long", async () => {
    for (const connection of connections) {
      connection.destroy();
    }
    await untilTrue(() => failures === count);
    failures = 0;
    await clock.advance(30_000);
    assert.equal(await listWithin(2_500), count);
  });
});

describe("a listing with sizes of a container whose agent is slow time and again", () => {
  it("waits for it once, and shows its last answer afterwards", async (t) => {
    const clock = new ManualClock(Date.now());
    await using resources = new AsyncDisposableStack();
    const bench = await EngineBench.start({ cloud: true, clock });
    resources.defer(() => bench.close());
    await bench.createScript("true");
    const asked: PromiseWithResolvers<bigint>[] = [];
    const { socket } = await serveAgent(t, {
      diskUsage: async () => {
        const answer = Promise.withResolvers<bigint>();
        asked.push(answer);
        return { writtenBytes: await answer.promise };
      },
    });
    bench.engine.context.driver.workloads.stored = () => ({ kind: "unix", path: socket });
    const list = async (): Promise<unknown> => {
      const { containers } = await bench.containers.listContainers({ all: true, size: true });
      return containers[0]?.sizeRw;
    };
    const first = list();
    await untilTrue(() => asked.length === 1);
    await clock.advance(5_000);
    asked[0]?.resolve(4_096n);
    assert.equal(await first, 4_096n);
    await clock.advance(30_000);
    const second = list();
    await untilTrue(() => asked.length === 2);
    await clock.advance(1_500);
    assert.equal(await Promise.race([second, setTimeout(2_000, "it waits")]), 4_096n);
    asked[1]?.resolve(8_192n);
    await untilTrue(async () => (await list()) === 8_192n);
  });
});

describe("sizes of containers", () => {
  const bench = EngineBench.ofEach(() => ({ cloud: true }));

  for (const bytes of [2n ** 63n - 1n, 2n ** 64n - 1n]) {
    it(`are told of the others where an agent says ${bytes} bytes`, async () => {
      const [liar, other] = [
        await bench.runScript("exec sleep 1000"),
        await bench.runScript("exec sleep 1000"),
      ];
      bench.machine.agentOf(liar).writtenBytes = bytes;
      const [listed, used] = [
        await bench.containers.listContainers({ size: true }),
        await bench.system.getDiskUsage({}),
      ];
      for (const { containers } of [listed, used]) {
        const sizes = Object.fromEntries(containers.map(({ id, sizeRw }) => [id, sizeRw]));
        assert.deepEqual(sizes, { [liar]: undefined, [other]: 4096n });
      }
    });
  }
});
