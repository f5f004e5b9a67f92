import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { isErrorKind, messageOf } from "../../../src/common/errors.ts";
import { ContainerStatus } from "../../../src/gen/sockerless/backend/v1/container_pb.ts";
import { untilTrue } from "../../support/until.ts";
import { EngineBench } from "../engine-bench.ts";

describe("a volume that containers which do not run leave free", () => {
  const bench = EngineBench.ofEach(() => ({ cloud: true }));

  const withVolume = { binds: ["data:/data"] };
  const remove = () => bench.volumes.removeVolume({ name: "data" });
  const isInUse = (error: unknown) => isErrorKind(error, "conflict");

  it("is in use by one that starts", async () => {
    const id = await bench.createScript("exec sleep 1000", { hostConfig: withVolume });
    bench.machine.busyLaunches = Promise.withResolvers();
    const started = bench.containers.startContainer({ container: id });
    await untilTrue(() => bench.machine.calls.includes("launch"));
    await assert.rejects(remove(), isInUse);
    bench.machine.busyLaunches.resolve();
    await started;
    await bench.containers.stopContainer({ container: id, timeoutSeconds: 0 });
    await remove();
  });

  it("is not made anew, empty, for who takes the volumes of another", async () => {
    const donor = await bench.createScript("true", { hostConfig: withVolume });
    await remove();
    await assert.rejects(
      bench.createScript("true", { hostConfig: { volumesFrom: [donor] } }),
      (error) => isErrorKind(error, "not-found") && messageOf(error) === "get data: no such volume",
    );
    assert.deepEqual([...bench.machine.volumes], []);
    assert.deepEqual([...bench.state.containers.keys()], [donor]);
  });

  it("is in use by one that is restarted, which no prune removes, while its last run is being taken away", async () => {
    const id = await bench.createScript("exec sleep 1000", { hostConfig: withVolume });
    const statusOf = () => bench.state.containers.get(id)?.state?.status;
    await bench.containers.startContainer({ container: id });
    bench.machine.busyReleases = Promise.withResolvers();
    const restarted = bench.containers.restartContainer({ container: id, timeoutSeconds: 0 });
    restarted.catch(() => undefined);
    await untilTrue(() => bench.machine.calls.includes("release"));
    assert.equal(statusOf(), ContainerStatus.EXITED);
    await assert.rejects(remove(), isInUse);
    assert.deepEqual((await bench.containers.pruneContainers({})).removed, []);
    bench.machine.busyReleases.resolve();
    await restarted;
    assert.equal(statusOf(), ContainerStatus.RUNNING);
  });

  it("is in use by one that its policy is about to start again", async () => {
    const id = await bench.createScript("exit 1", {
      hostConfig: { ...withVolume, restartPolicy: { name: "always" } },
    });
    const isRestarting = () => bench.state.containers.get(id)?.state?.status === ContainerStatus.RESTARTING;
    await bench.containers.startContainer({ container: id });
    bench.machine.busyLaunches = Promise.withResolvers(); // It is restarted only then.
    await untilTrue(isRestarting);
    await assert.rejects(remove(), isInUse);
  });
});
