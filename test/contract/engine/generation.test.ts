import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setImmediate } from "node:timers/promises";

import { create, toJsonString } from "@bufbuild/protobuf";
import { timestampNow } from "@bufbuild/protobuf/wkt";

import { StartPhases } from "../../../src/backends/common/engine/containers/live/start-phases.ts";
import { fromUnknown } from "../../../src/common/errors.ts";
import { HealthResultSchema } from "../../../src/gen/sockerless/agent/v1/agent_pb.ts";
import {
  ContainerDetailSchema,
  ListContainersResponseSchema,
} from "../../../src/gen/sockerless/backend/v1/container_pb.ts";
import { EngineBench, localAccess } from "../engine-bench.ts";

/** All that an inspect shows of a container, changed. */
async function wholeLife(bench: EngineBench): Promise<void> {
  for (const name of ["own", "joined"]) {
    await bench.networks.createNetwork({ name });
  }
  const id = await bench.createScript("exec sleep 60", {
    name: "first",
    config: { healthcheck: { test: ["CMD", "true"] } },
    hostConfig: { networkMode: "own" },
  });
  await bench.createScript("exec sleep 60", { name: "second" });
  await bench.containers.startContainer({ container: id });
  const health = create(HealthResultSchema, { end: timestampNow(), exitCode: 0 });
  bench.machine.agentOf(id).tell({ case: "health", value: health });
  await bench.networks.connectNetwork({ network: "joined", container: id });
  await bench.networks.disconnectNetwork({ network: "own", container: id });
  await bench.containers.renameContainer({ container: id, name: "other" });
  await bench.containers.renameContainer({ container: "second", name: "first" });
  await bench.containers.renameContainer({ container: id, name: "second" });
  const { id: execId } = await bench.execs.createExec({ container: id, config: { cmd: ["true"] } });
  const { endpoint } = await bench.execs.startExec({ execId, access: localAccess });
  await bench.session(endpoint, { openExec: { execId, process: { args: ["true"] } } });
  await bench.execs.awaitExec({ execId });
  await bench.containers.pauseContainer({ container: id });
  await bench.containers.unpauseContainer({ container: id });
  await bench.containers.restartContainer({ container: id, timeoutSeconds: 5 });
  await bench.containers.killContainer({ container: id, signal: "KILL" });
  await bench.wait(id);
  await bench.containers.removeContainer({ container: id });
  await bench.runScript("exit 3", { name: "second", hostConfig: { autoRemove: true } });
  await bench.engine.context.background.settle();
}

for (const cloud of [false, true]) {
  describe(`inspects and lists of one generation, ${cloud ? "in a cloud" : "on this machine"}`, () => {
    it("are alike, whatever happens to the container and its name", async () => {
      const bench = await EngineBench.start({ cloud });
      const answers = new Map<string, string>();
      let repeated = 0;
      const compare = (key: string, text: string): void => {
        repeated += answers.has(key) ? 1 : 0;
        assert.equal(answers.get(key) ?? text, text, key);
        answers.set(key, text);
      };
      const look = async (container: string): Promise<void> => {
        const answer = await bench.containers
          .inspectContainer({ container, afterStart: true })
          .catch((error: unknown) => {
            assert.equal(fromUnknown(error).kind, "not-found");
            return undefined;
          });
        if (answer?.container === undefined || answer.generation === 0n) {
          return;
        }
        compare(
          `${container} of ${answer.generation}`,
          toJsonString(ContainerDetailSchema, answer.container),
        );
      };
      const list = async (all: boolean): Promise<void> => {
        const answer = await bench.containers.listContainers({ all });
        if (answer.generation !== 0n) {
          compare(
            `${all ? "all" : "running"} of ${answer.generation}`,
            toJsonString(ListContainersResponseSchema, create(ListContainersResponseSchema, answer)),
          );
        }
      };
      try {
        let isOver = false;
        const life = wholeLife(bench).finally(() => {
          isOver = true;
        });
        while (!isOver) {
          await Promise.all([...["first", "second", "other"].map(look), ...[true, false].map(list)]);
          await setImmediate();
        }
        await life;
        assert.ok(answers.size > 10, `${answers.size} answers`);
        await look("first");
        await look("first");
        assert.ok(repeated > 0, "nothing changes what is at rest");
      } finally {
        await bench.close();
      }
    });

    it("have a number that lasts while an exec is on record", async () => {
      const bench = await EngineBench.start({ cloud });
      try {
        const container = await bench.runScript("exec sleep 60");
        const started = async () => {
          const { id } = await bench.execs.createExec({ container, config: { cmd: ["true"] } });
          return { id, ...(await bench.execs.startExec({ execId: id, access: localAccess })) };
        };
        const { id: execId, endpoint, generation } = await started();
        assert.notEqual(generation, 0n);
        await bench.session(endpoint, { openExec: { execId, process: { args: ["true"] } } });
        await bench.execs.awaitExec({ execId });
        assert.equal((await started()).generation, generation, "execs have come, begun and ended");
        await bench.containers.removeContainer({ container, force: true });
        await assert.rejects(bench.execs.inspectExec({ execId }));
        assert.notEqual(bench.engine.context.generation.allButExecs, generation);
      } finally {
        await bench.close();
      }
    });

    it("of a start that is under way may not be held", async () => {
      const bench = await EngineBench.start({ cloud });
      try {
        const container = await bench.createScript("exec sleep 60");
        const settled = await bench.containers.inspectContainer({ container });
        assert.notEqual(settled.generation, 0n);
        const listed = async (request: { readonly size?: boolean } = {}): Promise<bigint> =>
          (await bench.containers.listContainers({ all: true, ...request })).generation;
        assert.equal(await listed(), settled.generation);
        assert.equal(await listed({ size: true }), 0n);
        const sized = await bench.containers.inspectContainer({ container, size: true });
        assert.equal(sized.generation, 0n);
        const opened = async (): Promise<bigint> =>
          (await bench.containers.openLogs({ container, access: localAccess })).generation;
        assert.equal(await opened(), cloud ? 0n : settled.generation, "a cloud's log grows by itself");
        const { run } = bench.engine.context.live.of(container);
        const start = { over: Promise.resolve(), ending: new AbortController(), waitsFor: "" };
        run.begin({ ...start, phases: new StartPhases() });
        assert.deepEqual([await opened(), await listed()], [0n, 0n]);
        run.settle();
        const removing = Promise.withResolvers<void>();
        const removal = run.remove(() => removing.promise);
        const shown = await bench.containers.inspectContainer({ container });
        assert.equal(shown.generation, 0n);
        assert.equal(await listed(), 0n);
        removing.resolve();
        await removal;
        const after = await bench.containers.inspectContainer({ container });
        assert.notEqual(after.generation, settled.generation);
      } finally {
        await bench.close();
      }
    });
  });
}
