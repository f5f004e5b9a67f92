import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { duringTests } from "../../../support/during-tests.ts";
import { busyboxImage } from "../../../support/images.ts";
import { TestRegistry } from "../../../support/registry.ts";
import { Machine } from "./machine.ts";
import type { TaskContainerSpec, TaskListener, TaskSurroundings } from "./task.ts";
import type { Image } from "./images.ts";
import { scratchDirectory } from "../../../support/scratch.ts";

let image: Image;
const { machine } = duringTests(async (resources) => {
  const registry = resources.use(await TestRegistry.start());
  await registry.push("busybox", "latest", await busyboxImage());
  const directory = scratchDirectory();
  const machine = resources.use(
    await Machine.start({ directory, sleep: (ms, signal) => sleep(ms, undefined, { signal }) }),
  );
  image = await machine.images.pull(`${registry.host}/busybox:latest`, { plainHttp: true });
  return { machine };
});

function shell(name: string, script: string, more: Partial<TaskContainerSpec> = {}): TaskContainerSpec {
  return {
    name,
    image,
    entryPoint: ["/bin/sh", "-c", script],
    environment: {},
    readonlyRootFilesystem: false,
    binds: [],
    tmpfs: [],
    ulimits: [],
    sysctls: {},
    addCapabilities: [],
    memoryLimit: 256 * 2 ** 20,
    cpuShares: 256,
    essential: true,
    dependsOn: [],
    stopTimeoutMs: 10_000,
    ...more,
  };
}

interface Story {
  readonly running: string[];
  readonly ended: {
    readonly name: string;
    readonly code: number | undefined;
    readonly reason: string | undefined;
  }[];
  readonly lines: string[];
}

let tasks = 0;

const host: TaskSurroundings = {
  hostname: "machine.internal",
  etcFiles: { hosts: "127.0.0.1 localhost\n10.0.0.9 machine.internal\n" },
  outOfMemory: "no memory was left",
  describeFailure: (why) => `not started: ${why}`,
};

async function runTask(containers: readonly TaskContainerSpec[]): Promise<Story> {
  tasks += 1;
  const story: Story = { running: [], ended: [], lines: [] };
  const listener: TaskListener = {
    onRunning: (name) => story.running.push(name),
    onEnded: (name, code, reason) => story.ended.push({ name, code, reason }),
    onLines: (_, lines) => story.lines.push(...lines),
  };
  const network = await machine.vpc.attach({
    privateIpAddress: machine.vpc.cidr.replace(/0\/.*/, String(10 + tasks)),
    macAddress: "0a:00:00:00:00:04",
    subnet: { cidr: machine.vpc.cidr, routerAddress: machine.vpc.hostAddress },
    groupIds: [],
  });
  const task = machine.task(
    {
      id: `task-${tasks}`,
      network,
      host,
      memoryLimit: 512 * 2 ** 20,
      containers,
    },
    listener,
  );
  await task.run();
  await task.remove();
  await machine.vpc.detach(network);
  return story;
}

test("a container's output and exit code are told, and what it runs as is the cloud's", async () => {
  const story = await runTask([
    shell(
      "main",
      "echo hello; echo oops >&2; id -u; hostname; cat /etc/hosts; grep CapEff /proc/self/status; exit 3",
    ),
  ]);
  assert.deepEqual(story.ended, [{ name: "main", code: 3, reason: undefined }]);
  assert.deepEqual(
    story.lines.filter((line) => line !== "oops"),
    [
      ...["hello", "0", "machine.internal", "127.0.0.1 localhost", "10.0.0.9 machine.internal"],
      "CapEff:\t00000000a80425fb",
    ],
  );
  assert.ok(story.lines.includes("oops"));
});

test("a program that is not there is a start that failed, and nothing that the container said", async () => {
  const story = await runTask([shell("main", "", { entryPoint: ["nope"] })]);
  assert.deepEqual(story.lines, []);
  assert.deepEqual(story.running, []);
  assert.match(story.ended[0]?.reason ?? "", /^not started: .*exec: "nope": executable file not found/);
});

test("a container that takes more memory than it has is killed, and the reason says so", async () => {
  const story = await runTask([
    shell("main", "a=x; while true; do a=$a$a; done", { memoryLimit: 30 * 2 ** 20 }),
  ]);
  assert.deepEqual(story.ended, [{ name: "main", code: 137, reason: "no memory was left" }]);
});
