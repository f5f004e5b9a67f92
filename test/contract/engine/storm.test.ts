import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { fromUnknown } from "../../../src/common/errors.ts";
import { ContainerStatus } from "../../../src/gen/sockerless/backend/v1/container_pb.ts";
import { Phase } from "../../../src/gen/sockerless/state/v1/state_pb.ts";
import { EngineBench } from "../engine-bench.ts";

const lanes = 6;
const operationsPerLane = 40;
const names = ["red", "green", "blue"];
/** Refusals that operations on one container may well meet from each other. */
const expectedKinds: ReadonlySet<string> = new Set(["not-found", "conflict", "not-modified"]);

/** Numbers that look random and are the same in every run. */
function* pseudoRandom(seed: number): Generator<number> {
  let state = seed;
  for (;;) {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    yield state;
  }
}

describe("many clients at the same few containers", () => {
  it("get answers or plain refusals, and leave a sound state", async () => {
    await using bench = await EngineBench.start();
    const operations: readonly ((name: string) => Promise<unknown>)[] = [
      (name) => bench.createScript("exec sleep 1000", { name }),
      (name) => bench.createScript("exit 1", { name, hostConfig: { autoRemove: true } }),
      (name) => bench.containers.startContainer({ container: name }),
      (name) => bench.containers.startContainer({ container: name }),
      (name) => bench.containers.stopContainer({ container: name, timeoutSeconds: 1 }),
      (name) => bench.containers.killContainer({ container: name, signal: "TERM" }),
      (name) => bench.containers.restartContainer({ container: name, timeoutSeconds: 1 }),
      (name) => bench.containers.removeContainer({ container: name, force: true }),
      (name) => bench.execs.createExec({ container: name, config: { cmd: ["true"] } }),
      (name) => bench.containers.inspectContainer({ container: name }),
      () => bench.containers.listContainers({ all: true }),
    ];
    const lane = async (seed: number): Promise<void> => {
      const random = pseudoRandom(seed);
      const pick = <T>(list: readonly T[]): T => list[(random.next().value >> 8) % list.length] as T;
      for (let count = 0; count < operationsPerLane; count++) {
        await pick(operations)(pick(names)).catch((error: unknown) => {
          const { kind, message } = fromUnknown(error);
          assert.ok(expectedKinds.has(kind), `${kind}: ${message}`);
        });
      }
    };
    await Promise.all(Array.from({ length: lanes }, (_, seed) => lane(seed + 1)));

    const { containers } = await bench.containers.listContainers({ all: true });
    for (const { id, state } of containers) {
      assert.equal(bench.state.containers.get(id)?.phase, Phase.UNSPECIFIED);
      if (state?.status === ContainerStatus.RUNNING) {
        await bench.containers.stopContainer({ container: id, timeoutSeconds: 1 });
      }
      await bench.containers.removeContainer({ container: id }).catch((error: unknown) => {
        assert.ok(expectedKinds.has(fromUnknown(error).kind));
      });
    }
    await bench.engine.context.background.settle();
    assert.equal(bench.state.containers.size, 0);
    assert.equal(bench.state.execs.size, 0);
    assert.equal(bench.machine.workloads.size, 0);
    const { network } = await bench.networks.inspectNetwork({ network: "bridge" });
    assert.deepEqual(network?.containers, {});
    const last = await bench.runScript("exec sleep 1000");
    const { container } = await bench.containers.inspectContainer({ container: last });
    assert.equal(container?.networkSettings?.networks["bridge"]?.ipAddress, "172.18.0.2");
  });
});
