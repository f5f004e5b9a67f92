import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cp, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { it } from "node:test";

import { root } from "./program.ts";

/** Stands for bin/sockerless: says its arguments, and what ended it. */
const program = `#!/usr/bin/env node
for (const signal of ["SIGTERM", "SIGINT"]) {
  process.once(signal, () => console.log(signal));
}
const waiting = setInterval(() => {}, 1000);
process.once("SIGTERM", () => clearInterval(waiting));
process.once("SIGINT", () => clearInterval(waiting));
console.log(process.argv.slice(2).join(" "));
`;

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  it(`npm start passes ${signal} to sockerless`, async (context) => {
    const directory = await mkdtemp(join(tmpdir(), "start-"));
    context.after(() => rm(directory, { recursive: true, force: true }));
    await mkdir(join(directory, "bin"));
    for (const path of ["package.json", "scripts/start.sh"]) {
      await cp(join(root, path), join(directory, path));
    }
    await writeFile(join(directory, "scripts/prepare-serve.mjs"), "");
    await writeFile(join(directory, "bin/sockerless"), program, { mode: 0o755 });
    const child = spawn("npm", ["--silent", "start", "--", "--host", "unix:///a b"], {
      cwd: directory,
      stdio: ["ignore", "pipe", "inherit"],
      detached: true,
    });
    context.after(() => {
      try {
        process.kill(-(child.pid ?? 0), "SIGKILL");
      } catch {} // All of it has ended, as it should.
    });
    const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
    assert.equal((await lines.next()).value, "serve --host unix:///a b");
    child.kill(signal);
    assert.equal((await lines.next()).value, signal);
    await once(child, "close");
  });
}
