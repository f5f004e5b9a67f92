import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";

import { ContainerStatus, WaitCondition } from "../../../src/gen/sockerless/backend/v1/container_pb.ts";
import { untilTrue } from "../../support/until.ts";
import { EngineBench } from "../engine-bench.ts";

describe("a container that its policy starts again", () => {
  let bench: EngineBench;
  beforeEach(async () => {
    bench = await EngineBench.start();
  });
  afterEach(async () => {
    await bench.close();
  });

  const statusOf = (id: string) => bench.state.containers.get(id)?.state?.status;

  /** Lets it crash until its policy waits long enough for a test to meet it waiting. */
  const crashing = async (
    portBindings: readonly { readonly containerPort: string; readonly hostPort: string }[] = [],
  ): Promise<string> => {
    const id = await bench.runScript("exit 6", {
      hostConfig: { portBindings: [...portBindings], restartPolicy: { name: "always" } },
    });
    while ((bench.state.containers.get(id)?.restartCount ?? 0) < 5) {
      await bench.wait(id, WaitCondition.NEXT_EXIT);
    }
    assert.equal(statusOf(id), ContainerStatus.RESTARTING);
    return id;
  };

  it("ends the wait of who waits for it when a user stops it between two runs", async () => {
    const id = await crashing();
    const waiting = bench.wait(id, WaitCondition.NOT_RUNNING);
    await bench.containers.stopContainer({ container: id });
    assert.equal(await waiting, 6);
    assert.equal(statusOf(id), ContainerStatus.EXITED);
  });

  it("ends the wait of who waits for it when it cannot be started again", async () => {
    const id = await crashing([{ containerPort: "80/tcp", hostPort: "8080" }]);
    bench.machine.takenPorts.add(8080);
    assert.equal(await bench.wait(id, WaitCondition.NOT_RUNNING), 128);
    assert.equal(statusOf(id), ContainerStatus.EXITED);
    assert.match(bench.state.containers.get(id)?.state?.error ?? "", /port is already allocated/);
  });

  it("cannot be paused or looked into between two runs", async () => {
    const id = await crashing();
    await assert.rejects(bench.containers.pauseContainer({ container: id }), /is restarting, wait until/);
    await assert.rejects(bench.containers.topContainer({ container: id }), /is restarting, wait until/);
    await bench.containers.stopContainer({ container: id });
  });

  it("stays down when the backend dies in a stop whose signal its agent has not answered", async () => {
    const id = await bench.runScript("exec sleep 60", {
      hostConfig: { restartPolicy: { name: "unless-stopped" } },
    });
    const agent = bench.machine.agentOf(id);
    agent.failures.add("signal");
    const stopped = bench.containers.stopContainer({ container: id });
    stopped.catch(() => undefined);
    await untilTrue(() => agent.signalAttempts > 0);
    await bench.crashBackend();
    process.kill(agent.pid, "SIGTERM");
    await untilTrue(() => agent.exit !== undefined);
    await bench.startBackend();
    await untilTrue(() => statusOf(id) !== ContainerStatus.RUNNING);
    assert.equal(statusOf(id), ContainerStatus.EXITED);
  });
});
