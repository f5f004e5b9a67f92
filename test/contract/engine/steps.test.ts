/** Steps of a build that follow each other in what the driver keeps. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setTimeout } from "node:timers/promises";

import { untilTrue } from "../../support/until.ts";
import { EngineBench } from "../engine-bench.ts";

const ofBuild = { config: { labels: { "sockerless.build": "container" } } };

describe("a container whose step may be followed", () => {
  const bench = EngineBench.ofEach(() => ({
    prepare: (machine) => {
      machine.keepsSteps = true;
    },
  }));

  const addressOf = (id: string) => bench.state.containers.get(id)?.endpoints["bridge"]?.ipAddress ?? "";

  /** Address of a container that runs meanwhile. */
  async function addressOfAnother(): Promise<string> {
    const id = await bench.runScript("exec sleep 1000");
    const address = addressOf(id);
    await bench.containers.removeContainer({ container: id, force: true });
    await untilTrue(() => !bench.state.containers.has(id));
    return address;
  }

  /** A step that has ended, and the address that it had. */
  async function ended(): Promise<{ readonly id: string; readonly address: string }> {
    const id = await bench.runScript("exec sleep 1000", ofBuild);
    const address = addressOf(id);
    await bench.containers.killContainer({ container: id, signal: "KILL" });
    await bench.wait(id);
    await untilTrue(() => bench.machine.calls.at(-1) === "leave");
    await bench.engine.context.live.of(id).released;
    return { id, address };
  }

  const follow = (container: string, script: string) =>
    bench.containers.startContainer({
      container,
      nextStep: { image: "shell", committed: "shell", config: { cmd: { values: ["sh", "-c", script] } } },
    });

  it("has its address until it is removed, and in its next step", async () => {
    const { id, address } = await ended();
    assert.equal(bench.machine.calls.includes("release"), false);
    assert.notEqual(await addressOfAnother(), address);
    await follow(id, "exec sleep 1000");
    assert.equal(addressOf(id), address);
    assert.notEqual(await addressOfAnother(), address);
    await bench.containers.removeContainer({ container: id, force: true });
    await untilTrue(() => !bench.state.containers.has(id));
    assert.equal(await addressOfAnother(), address);
  });

  it("has its address no longer where its next step fails to start", async () => {
    const { id, address } = await ended();
    const busy = Promise.withResolvers<void>();
    bench.machine.busyLaunches = busy;
    const followed = assert.rejects(follow(id, "true"), /nothing is kept/);
    await untilTrue(() => bench.machine.calls.at(-1) === "launch");
    busy.reject(new Error("nothing is kept"));
    await followed;
    bench.machine.busyLaunches = undefined;
    await untilTrue(() => bench.machine.calls.at(-1) === "release");
    await bench.engine.context.live.of(id).released;
    assert.equal(await addressOfAnother(), address);
  });

  it("is released by a backend that starts anew, before anybody gets its address", async () => {
    const { id } = await ended();
    await bench.crashBackend();
    const releases = Promise.withResolvers<void>();
    bench.machine.busyReleases = releases;
    let isServing = false;
    const started = bench.startBackend().then(() => {
      isServing = true;
    });
    await untilTrue(() => bench.machine.calls.at(-1) === "release");
    await Promise.race([started, setTimeout(200)]); // It begins to serve meanwhile where it waits for nothing.
    const servedBefore = isServing;
    releases.resolve();
    await started;
    assert.equal(servedBefore, false);
    assert.equal(bench.state.containers.has(id), true);
  });

  it("has its address no longer where the driver keeps nothing", async () => {
    bench.machine.keepsSteps = false;
    const { id, address } = await ended();
    await assert.rejects(follow(id, "true"), /nothing is kept of container/);
    assert.equal(bench.state.containers.get(id)?.state?.error, "");
    assert.equal(bench.machine.calls.at(-1), "leave");
    assert.equal(await addressOfAnother(), address);
  });

  it("is one of a build", async () => {
    const id = await bench.runScript("true");
    await bench.wait(id);
    await untilTrue(() => bench.machine.calls.length === 3);
    assert.deepEqual(bench.machine.calls, ["create", "launch", "release"]);
  });
});
