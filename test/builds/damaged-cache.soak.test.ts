/**
 * Damaged files of the build cache: builds go on without what was dropped, and the log names it: each database is
 * damaged in each way.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { open, stat, truncate } from "node:fs/promises";
import { join } from "node:path";
import { before, describe, test } from "node:test";

import { built, compileBuilder } from "../support/builds.ts";
import { buildLimitMs } from "../support/command.ts";
import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

before(compileBuilder, { timeout: buildLimitMs });
const { daemon } = withDaemon();

const pageBytes = 4096;

/** Damages a file of whole pages. */
const damages: Readonly<Record<string, (file: string) => Promise<void>>> = {
  "cut in the middle": async (file) => truncate(file, (await stat(file)).size / 2),
  "cut within its first page": (file) => truncate(file, 100),
  garbled: (file) => fillPages(file, 0xa5, 2),
  "garbled whole": (file) => fillPages(file, 0xa5, 0),
  "full of zeros": (file) => fillPages(file, 0, 2),
};
const databases = ["states.db", "metadata.db", "keys.db", "history.db"];

/** Writes over a file from a page on. */
async function fillPages(file: string, byte: number, first: number): Promise<void> {
  const handle = await open(file, "r+");
  const { size } = await handle.stat();
  const start = first * pageBytes;
  await handle.write(Buffer.alloc(size - start, byte), 0, size - start, start);
  await handle.close();
}

/** Builds an image, which says so. */
async function build(): Promise<string> {
  const name = randomUUID();
  const image = await built(daemon.socket, `FROM busybox\nRUN echo ${name} > /name\n`);
  assert.equal(await daemon.ok("run", "--rm", image, "cat", "/name"), name);
  return image;
}

describe("a build beside the build cache's", () => {
  for (const [database, damage] of databases.flatMap((each) =>
    Object.keys(damages).map((how) => [each, how] as const),
  )) {
    test(`${database}, ${damage}`, async () => {
      const image = await build();
      const container = await daemon.ok("run", "-d", image, "sleep", "1000000");
      await daemon.shutDown();
      const file = join(daemon.stateDir, "builder", database);
      await damages[damage]?.(file);
      await daemon.launch();

      await build();
      const told = `the build cache's ${file} is damaged and dropped: `;
      const line = await until(() => daemon.output.split("\n").find((each) => each.includes(told)));
      const { level, component } = JSON.parse(line) as Record<string, unknown>;
      assert.deepEqual([level, component], ["warn", "builder"]);
      await daemon.ok("rm", "--force", container);
      await daemon.ok("builder", "prune", "--all", "--force");
      await build();
    });
  }
});
