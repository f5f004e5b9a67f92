import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { duringTests } from "../../support/during-tests.ts";
import { processesBelow } from "../../support/processes.ts";
import { TestRegistry } from "../../support/registry.ts";
import { until } from "../../support/until.ts";
import { startAws } from "./aws.ts";
import { pushBusybox } from "./ecs-scene.ts";

// A registry of this process has the image, because it stays when a simulator's process ends.
let image: string;
duringTests(async (resources) => {
  image = await pushBusybox(resources.use(await TestRegistry.start()));
  return {};
});

/** A process with a simulator and a task that runs; it tells the simulator's directory and its interface. */
async function startElsewhere(image: string): Promise<{
  readonly child: ChildProcess;
  readonly directory: string;
  readonly hostAddress: string;
}> {
  const scene = fileURLToPath(new URL("./ecs-scene.js", import.meta.url));
  const script = `
    const { EcsScene } = await import(${JSON.stringify(scene)});
    const scene = await EcsScene.start({}, ${JSON.stringify(image)});
    const task = await scene.run(await scene.register([scene.shell("main", "sleep 1000")]));
    await scene.running(task);
    const { directory } = scene.aws.context;
    const [{ routerAddress }] = scene.aws.services.network.subnets();
    console.log(JSON.stringify({ directory, hostAddress: routerAddress }));
    process.stdin.resume().on("end", () => scene[Symbol.asyncDispose]());
  `;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", script], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  for await (const line of createInterface(child.stdout)) {
    return { child, ...(JSON.parse(line) as { directory: string; hostAddress: string }) };
  }
  throw new Error("the simulator did not start");
}

function addresses(): string[] {
  return Object.values(networkInterfaces()).flatMap((each) => (each ?? []).map(({ address }) => address));
}

/** Control groups of a simulator: they lie outside its namespaces and its directory. */
function cgroupsOf(directory: string): string[] {
  const name = directory.slice(directory.lastIndexOf("/") + 1);
  const hierarchies = ["", ...readdirSync("/sys/fs/cgroup")];
  return hierarchies.map((each) => `/sys/fs/cgroup/${each}/${name}`).filter((group) => existsSync(group));
}

test("a simulator that stops leaves nothing, whatever ran", async () => {
  const { child, directory, hostAddress } = await startElsewhere(image);
  assert.ok(addresses().includes(hostAddress));
  assert.notDeepEqual(cgroupsOf(directory), []);
  const ended = once(child, "exit");
  child.stdin?.end();
  assert.deepEqual(await ended, [0, null]);
  assert.equal(existsSync(directory), false);
  assert.deepEqual(cgroupsOf(directory), []);
  assert.deepEqual(processesBelow(directory), []);
  assert.equal(addresses().includes(hostAddress), false);
});

test("what a simulator that is killed leaves ends with it, but for files, which the next one removes", async () => {
  const { child, directory, hostAddress } = await startElsewhere(image);
  const ended = once(child, "exit");
  child.kill("SIGKILL");
  await ended;
  await until(() => !addresses().includes(hostAddress) || undefined);
  const inside = (): string[] =>
    processesBelow(directory).filter((each) => !each.includes("docker-registry"));
  await until(() => inside().length === 0 || undefined);
  // The next simulator leaves what the kernel still works at to the one after it, and so on.
  await until(async () => {
    await using aws = await startAws();
    assert.notEqual(aws.context.directory, directory);
    return existsSync(directory) ? undefined : true;
  });
  assert.deepEqual(cgroupsOf(directory), []);
});
