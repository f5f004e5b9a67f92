import assert from "node:assert/strict";
import { test } from "node:test";

import { runCommand } from "./command.ts";
import { awsEnvironment } from "./ecs-daemon.ts";
import { leftMachine, withinMachine } from "./within-machine.ts";

/** Tells how connections to these hosts, and a request by name, fail. */
const program = `
const { connect } = await import("node:net");
for (const host of ["127.0.0.1", "localhost", "192.0.2.1", "2001:db8::1", "api.loganalytics.io"]) {
  const socket = connect({ host, port: 1 });
  console.log(host, await new Promise((resolve) => socket.once("error", ({ code }) => resolve(code))));
}
await fetch("https://management.azure.com/").catch(() => console.log("refused"));
`;

/** As the simulated Azure gives it to a process. */
const azureEnvironment = { IDENTITY_ENDPOINT: "https://127.0.0.1:1/identity" };

test("a process within this machine reaches nothing but it", async () => {
  const { text, errorText } = await runCommand(process.execPath, ["--input-type=module", "--eval", program], {
    env: withinMachine(process.env),
  });
  assert.deepEqual(text.split("\n"), [
    "127.0.0.1 ECONNREFUSED",
    "localhost ECONNREFUSED",
    "192.0.2.1 ENETUNREACH",
    "2001:db8::1 ENETUNREACH",
    "api.loganalytics.io ENETUNREACH",
    "refused",
  ]);
  const refused = errorText.split("\n").filter((line) => line.startsWith(leftMachine));
  assert.deepEqual(
    refused.map((line) => line.slice(leftMachine.length)),
    ["192.0.2.1", "2001:db8::1", "api.loganalytics.io", "management.azure.com"],
  );
});

test("a command with credentials of a cloud reaches nothing but this machine, and fails its test where it tries", async () => {
  for (const env of [awsEnvironment({ accessKeyId: "AKIA", secretAccessKey: "secret" }), azureEnvironment]) {
    await assert.rejects(
      runCommand(process.execPath, ["--input-type=module", "--eval", program], {
        env: { ...process.env, ...env },
      }),
      new RegExp(`${leftMachine}management.azure.com`),
    );
  }
});
