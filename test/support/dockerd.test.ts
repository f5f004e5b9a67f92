/** Tests that a dockerd which does not start leaves nothing. */
import assert from "node:assert/strict";
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";

import { runCommand } from "./command.ts";
import { Dockerd } from "./dockerd.ts";
import { scratchDirectory } from "./scratch.ts";

/** Nobody else's. */
const address = "10.214.213.1/24";

test("a dockerd that does not start leaves neither a directory nor a bridge", async (t) => {
  const scratch = scratchDirectory();
  const before = process.env["TMPDIR"];
  process.env["TMPDIR"] = join(scratch, "tmp");
  t.after(async () => {
    delete process.env["TMPDIR"];
    Object.assign(process.env, before === undefined ? {} : { TMPDIR: before });
  });
  for (const [name, script, told] of [
    ["missing", undefined, /ENOENT/],
    ["failing", "echo it cannot; exit 3", /dockerd ended with 3:\nit cannot/],
    ["killed", "kill -9 $$", /dockerd ended with SIGKILL/],
  ] as const) {
    const programs = join(scratch, name);
    await mkdir(programs);
    await mkdir(join(scratch, "tmp"));
    if (script !== undefined) {
      await writeFile(join(programs, "dockerd"), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    }
    await assert.rejects(Dockerd.start({ address, programs }), told);
    assert.deepEqual(await readdir(join(scratch, "tmp")), []);
    await rm(join(scratch, "tmp"), { recursive: true });
    assert.equal((await runCommand("ip", ["-oneline", "address", "show", "to", address])).text, "");
  }
  await assert.rejects(Dockerd.start({ address: "no address" }), /ip address add no address/);
});
