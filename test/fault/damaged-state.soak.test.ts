/**
 * Damage of the database: what the state does not know any more stays, is told, comes back with its record, and goes by a
 * user's command.
 */
import assert from "node:assert/strict";
import { cp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";

import { busyboxArchiveFile } from "../support/images.ts";
import { withDaemon } from "../support/with-daemon.ts";
import { Random } from "../support/random.ts";

const seed = process.env["SOCKERLESS_SEED"] ?? "1";

/** Changes of the log's bytes. */
const damages: Readonly<Record<string, (log: Buffer, random: Random) => Buffer>> = {
  "0.1 % of its bytes flipped": (log, random) => {
    for (let n = 0; n < Math.ceil(log.length / 1000); n++) {
      log.writeUInt8(random.below(256), random.below(log.length));
    }
    return log;
  },
  "half of it cut": (log) => log.subarray(0, Math.floor(log.length / 2)),
  "nothing left of it": () => Buffer.alloc(0),
  "zeros from its middle on": (log) => log.fill(0, Math.floor(log.length / 2)),
  "random bytes in its place": (log, random) => Buffer.from(log.map(() => random.below(256))),
};

describe("a log of the database with", () => {
  const { daemon } = withDaemon();

  for (const [name, damage] of Object.entries(damages)) {
    test(`${name}: nothing beside it is lost`, async () => {
      const db = join(daemon.stateDir, "db");
      const filesOf = (directory: string): Promise<string[]> => readdir(join(daemon.stateDir, directory));
      const warnings = async (): Promise<readonly string[]> =>
        (
          (JSON.parse(await daemon.ok("info", "--format={{json .Warnings}}")) as readonly string[] | null) ??
          []
        ).filter((each) => each.includes("lost records"));
      await daemon.ok("load", "--input", await busyboxArchiveFile());
      await daemon.ok("volume", "create", "data");
      const script = "echo kept > /file; echo kept > /data/file; echo said";
      const id = await daemon.ok(
        ...["create", "--name=keep", "--volume=data:/data", "busybox", "sh", "-c", script],
      );
      assert.equal(await daemon.ok("start", "--attach", "keep"), "said");
      await daemon.shutDown();
      const whole = join(daemon.directory, "whole");
      await cp(db, whole, { recursive: true });
      const before = { layers: await filesOf("layers"), blobs: await filesOf("blobs/sha256") };
      const [log = assert.fail("no log")] = (await readdir(db)).filter((each) => each.endsWith(".log"));
      await writeFile(join(db, log), damage(await readFile(join(db, log)), new Random(`${seed} ${name}`)));

      for (const _start of [1, 2]) {
        await daemon.launch(); // The second time the database is whole.
        assert.equal((await daemon.docker("inspect", "keep")).code, 1, "its record is lost");
        const named = `files of 1 container\\(s\\) \\(${id.slice(0, 12)}\\)`;
        assert.match((await warnings()).join(), new RegExp(`${named}.*"sockerless check"`));
        assert.match(daemon.output, /may have lost records.*sockerless check/);
        assert.match(daemon.output, /files of a container that the state does not know are kept/);
        assert.ok((await filesOf("containers")).includes(id));
        for (const [directory, names] of [
          ["layers", before.layers],
          ["blobs/sha256", before.blobs],
        ] as const) {
          const now = new Set(await filesOf(directory));
          assert.deepEqual(
            names.filter((each) => !now.has(each)),
            [],
            directory,
          );
        }
        assert.match(await daemon.ok("volume", "ls", "--quiet"), /^data$/m);
        await daemon.shutDown();
      }
      const lost = join(daemon.directory, "lost");
      await cp(db, lost, { recursive: true });
      await rm(db, { recursive: true });
      await cp(whole, db, { recursive: true });
      await daemon.launch();
      assert.equal(await daemon.ok("logs", "keep"), "said");
      assert.match(await daemon.ok("diff", "keep"), /A \/file/);
      assert.equal(await daemon.ok("start", "--attach", "keep"), "said");
      await daemon.shutDown();

      await rm(db, { recursive: true });
      await cp(lost, db, { recursive: true });
      await daemon.launch();
      assert.match(await daemon.ok("container", "prune", "--force"), new RegExp(id));
      assert.deepEqual([await warnings(), (await filesOf("containers")).includes(id)], [[], false]);
      await daemon.ok("load", "--input", await busyboxArchiveFile());
      assert.equal(
        await daemon.ok("run", "--rm", "--volume=data:/data", "busybox", "cat", "/data/file"),
        "kept",
      );
      await daemon.ok("volume", "rm", "data");
      await Promise.all([whole, lost].map((each) => rm(each, { recursive: true })));
    });
  }
});
