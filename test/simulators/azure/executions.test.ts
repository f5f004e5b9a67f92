import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { test } from "node:test";

import { AzureScene } from "./azure-scene.ts";
import { duringTests } from "../../support/during-tests.ts";

const scene = duringTests(() => AzureScene.start());

test("an execution runs its containers for real, with its variables, secrets and size", async () => {
  const lines = await scene.output("real", "id -u; hostname; echo $CONTAINER_APP_JOB_NAME $KEY $PLAIN", {
    configuration: {
      triggerType: "Manual",
      replicaTimeout: 600,
      secrets: [{ name: "key", value: "secret" }],
    },
    containers: [
      {
        name: "main",
        command: ["/bin/sh", "-c"],
        args: ["id -u; hostname; echo $CONTAINER_APP_JOB_NAME $KEY $PLAIN"],
        env: [
          { name: "KEY", secretRef: "key" },
          { name: "PLAIN", value: "text" },
        ],
      },
    ],
  });
  const [seen] = scene.azure.app.executions;
  assert.deepEqual(lines, ["0", seen?.replicas[0], "real secret text"]);
  assert.equal(seen?.status, "Succeeded");
  assert.equal(await scene.status("real", seen.name), "Succeeded");
});

test("init containers run first and hand files on in an empty directory", async () => {
  const volumes = [{ name: "shared", storageType: "EmptyDir" }];
  const volumeMounts = [{ volumeName: "shared", mountPath: "/shared" }];
  const shell = (name: string, script: string) => ({
    name,
    command: ["/bin/sh", "-c"],
    args: [script],
    volumeMounts,
  });
  const lines = await scene.output("init", "", {
    volumes,
    initContainers: [shell("first", "echo one > /shared/f"), shell("second", "echo two >> /shared/f")],
    containers: [shell("main", "cat /shared/f")],
  });
  assert.deepEqual(lines, ["one", "two"]);
});

test("an exit code other than 0 is a failure", async () => {
  await scene.write("failing", "exit 3");
  const seen = await scene.ended(await scene.start("failing"));
  assert.equal(seen.status, "Failed");
  assert.deepEqual(
    seen.ends.map(({ exitCode }) => exitCode),
    [3],
  );
});

test("a stopped execution gets SIGTERM, and SIGKILL after 30 seconds", async () => {
  await scene.write("stop", "trap 'echo term' TERM; echo ready; while :; do sleep 0.1; done");
  const execution = await scene.start("stop");
  await scene.said(execution, "ready");
  await scene.ask("POST", `Microsoft.App/jobs/stop/executions/${execution}/stop`);
  await scene.said(execution, "term");
  assert.equal(await scene.status("stop", execution), "Running");
  const seen = await scene.endedInTime(execution);
  assert.deepEqual([seen.status, seen.ends[0]?.exitCode], ["Stopped", 137]);
});

test("a replica that takes longer than it may fails", async () => {
  await scene.write("timeout", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done", {
    configuration: { triggerType: "Manual", replicaTimeout: 1000 },
  });
  const execution = await scene.start("timeout");
  await scene.said(execution, "ready");
  scene.azure.clock.advance(1_000_000);
  const seen = await scene.ended(execution);
  assert.deepEqual([seen.status, seen.ends[0]?.exitCode], ["Failed", 7]);
});

test("a job whose image is not there is refused, or waits for it until its time is up", async () => {
  const image = scene.image.replace(/@.*/, ":nothing");
  const containers = [{ name: "main", image }];
  const { status, body } = await scene.ask(
    "PUT",
    "Microsoft.App/jobs/missing",
    scene.job("", { containers }),
  );
  assert.equal(`${status} ${body.error.code}`, "400 InvalidParameterValueInContainerTemplate");
  scene.azure.switches.imagesAreChecked = false;
  await scene.write("missing", "", { containers });
  scene.azure.switches.imagesAreChecked = true;
  const execution = await scene.start("missing");
  assert.match(await scene.complaint(execution), /^ImagePullBackOff: MANIFEST_UNKNOWN/);
  assert.equal(await scene.status("missing", execution), "Running");
  assert.equal((await scene.endedInTime(execution)).status, "Failed");
});

test("replicas reach this machine, and neither they nor anybody else reaches them", async () => {
  await using server = createServer((socket) => socket.end("hello\n"));
  server.listen(0, scene.azure.hostAddress);
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  scene.azure.app.names.set("callback.example", [scene.azure.hostAddress]);
  await scene.write("listener", "while :; do nc -l -p 80 -e echo inside; done");
  const listener = await scene.running(await scene.start("listener"));
  const lines = await scene.output(
    "caller",
    `nc ${scene.azure.hostAddress} ${port} </dev/null; nc callback.example ${port} </dev/null
     nc -w 2 ${listener.address} 80 </dev/null || echo unreachable`,
  );
  assert.deepEqual(
    lines.filter((line) => !line.startsWith("nc:")),
    ["hello", "hello", "unreachable"],
  );
  assert.equal(await isReached(listener.address ?? "", 80), false);
  await scene.ask("DELETE", "Microsoft.App/jobs/listener");
});

/** Whether a connection is there within two seconds: one that is let through takes milliseconds. */
async function isReached(host: string, port: number): Promise<boolean> {
  const socket = connect({ host, port, timeout: 2_000 });
  try {
    return await new Promise<boolean>((resolve) => {
      socket.on("connect", () => resolve(true));
      socket.on("timeout", () => resolve(false));
      socket.on("error", () => resolve(false));
    });
  } finally {
    socket.destroy();
  }
}
