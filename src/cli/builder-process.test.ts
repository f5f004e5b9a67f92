import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";

import { createLogger } from "../common/logger.ts";
import { BuilderProcess } from "./builder-process.ts";

describe("a builder", () => {
  test("that cannot be started is told at once, with the reason", async () => {
    const directory = await mkdtemp(join(tmpdir(), "skl-builder-"));
    try {
      const program = join(directory, "builder");
      await writeFile(program, "", { mode: 0o600 });
      const builder = new BuilderProcess(
        {
          stateDir: directory,
          runDir: directory,
          backendAddress: "unix:///nowhere",
          builder: { cacheSize: 1, contextSize: 1 },
        },
        createLogger({ level: "silent", process: "test" }),
        { program, compiler: join(directory, "none") },
      );
      await assert.rejects(
        builder.start(false, () => {}),
        { message: /^the builder cannot be started: spawn .* EACCES$/ },
      );
    } finally {
      await rm(directory, { recursive: true });
    }
  });
});
