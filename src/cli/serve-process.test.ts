import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { packagesOf } from "../../test/support/imported-packages.ts";
import { scratchDirectory } from "../../test/support/scratch.ts";

const program = fileURLToPath(new URL("./serve-process.js", import.meta.url));

test("the configuration may come by any descriptor", async () => {
  const directory = scratchDirectory();
  const file = join(directory, "config.yaml");
  await writeFile(file, "log_leve: info\n");
  for (const descriptor of [3, 20]) {
    await using config = await open(file);
    const gap = Array.from({ length: descriptor - 3 }, () => "ignore" as const);
    const child = spawn(process.execPath, [program, "serve", "--config", `/dev/fd/${descriptor}`], {
      stdio: ["ignore", "ignore", "pipe", ...gap, config.fd],
    });
    assert.ok(child.stderr !== null);
    const [told, [code]] = await Promise.all([text(child.stderr), once(child, "exit")]);
    assert.match(told, new RegExp(`unknown key log_leve \\(in /dev/fd/${descriptor}\\)`));
    assert.equal(code, 1);
  }
});

test("it loads no package: it stays for as long as the daemon does", async () => {
  for (const name of ["serve-process.js", "serve-detached.js"]) {
    assert.deepEqual(await packagesOf(new URL(name, import.meta.url)), new Set());
  }
});
