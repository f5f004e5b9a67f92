import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { untilTrue } from "../../support/until.ts";
import { startAzure } from "./azure.ts";

test("nothing is left of a subscription that has ended", async () => {
  const azure = await startAzure();
  const { directory } = azure.context;
  assert.ok(existsSync(directory));
  await azure.stop();
  assert.ok(!existsSync(directory));
});

test("what a killed simulator leaves, the next one removes, whether or not it ran anything", async () => {
  const module = fileURLToPath(new URL("./azure.js", import.meta.url));
  const script = `
    const { startAzure } = await import(${JSON.stringify(module)});
    const { context } = await startAzure({ lightweight: true });
    console.log(context.directory);
  `;
  const child = spawn(process.execPath, ["--input-type=module", "--eval", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [directory] = (await once(createInterface(child.stdout), "line")) as [string];
  const ended = once(child, "exit");
  child.kill("SIGKILL");
  await ended;
  assert.ok(existsSync(directory));
  await using azure = await startAzure({ lightweight: true });
  assert.notEqual(azure.context.directory, directory);
  await untilTrue(() => !existsSync(directory));
});
