/**
 * Damage of any file of the state directory: nothing beside it is lost, no other end and no other output is told, and all
 * is there again once the file is put back. A sample; all kinds with SOCKERLESS_SOAK=1 (`npm run soak`).
 */
import assert from "node:assert/strict";
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { before, describe, test } from "node:test";

import { runCommand } from "../support/command.ts";
import type { Daemon } from "../support/daemon.ts";
import { Random } from "../support/random.ts";
import { withDaemon } from "../support/with-daemon.ts";
import { isSoak } from "../support/soak.ts";

const seed = process.env["SOCKERLESS_SEED"] ?? "1";

/** Files, by their paths in the state directory. */
const files: Readonly<Record<string, RegExp>> = {
  "the database's log": /^db\/\d+\.log$/,
  "a table of the database": /^db\/\d+\.ldb$/,
  "the database's manifest": /^db\/MANIFEST/,
  CURRENT: /^db\/CURRENT$/,
  "the spare": /^spare$/,
  "a layer's record": /^layers\/[^/]+\/layer\.json$/,
  "the record of a container's files": /^containers\/[^/]+\/rootfs\.json$/,
  "the record of a launch": /^containers\/[^/]+\/shim\.json$/,
  "the record of an end": /^containers\/[^/]+\/exit\.json$/,
  "the record of a beginning": /^containers\/[^/]+\/begun\.json$/,
  "a container's log": /^containers\/[^/]+\/log\/[0-9a-f]+\.log$/,
};

/** Changes of a file; undefined: it is removed. */
const damages: Readonly<Record<string, (content: Buffer, random: Random) => Buffer | undefined>> = {
  "is missing": () => undefined,
  "has a flipped byte": (content, random) => {
    const at = random.below(content.length);
    content.writeUInt8(content.readUInt8(at) ^ (1 + random.below(255)), at);
    return content;
  },
  "has a hundredth of its bytes flipped": (content, random) => {
    for (let n = 0; n < content.length / 100; n++) {
      content.writeUInt8(random.below(256), random.below(content.length));
    }
    return content;
  },
  "is cut in half": (content) => content.subarray(0, Math.floor(content.length / 2)),
  "is empty": () => Buffer.alloc(0),
  "has zeros from its middle on": (content) => content.fill(0, Math.floor(content.length / 2)),
  "has random bytes": ({ length }, random) =>
    Buffer.alloc(length, Buffer.from(Array.from({ length: 4093 }, () => random.below(256)))),
};

const sample = "a table of the database has a flipped byte";

describe("a state directory in which", () => {
  const { daemon } = withDaemon();
  let whole: string;
  let id: string;

  before(async () => {
    const script = "echo kept > /file; echo kept > /data/file; echo said; exit 7";
    const create = ["create", "--name=keep", "--volume=data:/data", "busybox", "sh", "-c", script];
    id = await daemon.ok(...create);
    assert.equal((await daemon.docker("start", "--attach", "keep")).code, 7);
    await daemon.shutDown();
    await daemon.launch(); // Records so far go to a table.
    await daemon.ok("rename", "keep", "kept");
    await daemon.shutDown();
    whole = join(daemon.directory, "whole");
    await copy(daemon.stateDir, whole);
  });

  for (const [file, pattern] of Object.entries(files)) {
    for (const [kind, damage] of Object.entries(damages)) {
      const name = `${file} ${kind}`;
      test(name, { skip: !isSoak && name !== sample }, async () => {
        const names = (await readdir(whole, { recursive: true })).filter((each) => pattern.test(each));
        assert.notEqual(names.length, 0, "there is such a file");
        for (const each of names) {
          const random = new Random(`${seed} ${name} ${each}`);
          const content = damage(await readFile(join(whole, each)), random);
          const path = join(daemon.stateDir, each);
          await (content === undefined ? rm(path) : writeFile(path, content));
        }
        await daemon.launch();
        await assertNothingElse(daemon, id);
        await daemon.shutDown();
        await rm(daemon.stateDir, { recursive: true });
        await copy(whole, daemon.stateDir);
        await daemon.launch();
        assert.equal(await daemon.ok("logs", "kept"), "said");
        assert.equal((await daemon.docker("start", "--attach", "kept")).text, "said");
        await daemon.shutDown();
        await rm(daemon.stateDir, { recursive: true });
        await copy(whole, daemon.stateDir);
      });
    }
  }
});

async function copy(from: string, to: string): Promise<void> {
  const { code, errorText } = await runCommand("cp", ["--archive", from, to]);
  assert.equal(code, 0, errorText);
}

/** Everything is told as it was, or not at all; what a user has written is there in any case. */
async function assertNothingElse(daemon: Daemon, id: string): Promise<void> {
  const container = await daemon.docker("inspect", "--format={{.State.Status}} {{.State.ExitCode}}", id);
  if (container.code === 0) {
    assert.equal(container.text, "exited 7");
    const logs = await daemon.docker("logs", id);
    // One that ends in half a record is that of a writer that was killed.
    assert.ok(
      "said".startsWith(logs.text) || logs.code !== 0 || logs.errorText !== "",
      "its log has no other output",
    );
  } else {
    assert.match(await daemon.ok("info", "--format={{json .Warnings}}"), /files of 1 container\(s\)/);
  }
  assert.equal(await readFile(join(daemon.stateDir, "containers", id, "upper/file"), "utf8"), "kept\n");
  assert.equal(await readFile(join(daemon.stateDir, "volumes/data/_data/file"), "utf8"), "kept\n");
}
