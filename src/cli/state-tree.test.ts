/** State directories and archives that no daemon wrote: nothing in them leads a check or a restore elsewhere. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import {
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { before, describe, it } from "node:test";

import { openState } from "../backends/state/state.ts";
import { systemClock } from "../common/clock.ts";
import { isErrorKind } from "../common/errors.ts";
import { backup, restore } from "./backup.ts";
import { checkState } from "./check.ts";
import { scratchDirectory } from "../../test/support/scratch.ts";

const half = Buffer.from("534c01", "hex"); // The beginning of a log's record, which a repair cuts off.

/** A hostile change of a state directory; `outside` is somebody else's. */
type Change = (state: string, outside: string) => Promise<unknown>;

const linked =
  (name: string): Change =>
  async (state, outside) => {
    await mkdir(path.dirname(path.join(state, name)), { recursive: true });
    await rm(path.join(state, name), { recursive: true, force: true });
    await symlink(outside, path.join(state, name));
  };
const linkedTo =
  (name: string, file: string): Change =>
  async (state, outside) =>
    await linked(name)(state, path.join(outside, file));
const pipe =
  (name: string): Change =>
  async (state) => {
    await mkdir(path.dirname(path.join(state, name)), { recursive: true });
    await rm(path.join(state, name), { force: true });
    execFileSync("mkfifo", [path.join(state, name)]);
  };

const changes: Readonly<Record<string, Change>> = {
  "a database elsewhere": linked("db"),
  "a database's lock elsewhere": linkedTo("db/LOCK", "file"),
  "a database's file that is a pipe": pipe("db/000099.log"),
  "a database's CURRENT that is a pipe": pipe("db/CURRENT"),
  "a database's log elsewhere": linkedTo("db/000099.log", "1.log"),
  "a spare elsewhere": linkedTo("spare", "file"),
  "a spare that is a pipe": pipe("spare"),
  "copies elsewhere": linked("set-aside"),
  "blobs elsewhere": linked("blobs/sha256"),
  "all blobs elsewhere": linked("blobs"),
  "a blob elsewhere": linkedTo(`blobs/sha256/${"a".repeat(64)}`, "file"),
  "a blob that is a pipe": pipe(`blobs/sha256/${"a".repeat(64)}`),
  "containers elsewhere": linked("containers"),
  "a container elsewhere": linked("containers/one"),
  "a container's log elsewhere": linked("containers/one/log"),
  "a file of a container's log elsewhere": linkedTo("containers/one/log/2.log", "1.log"),
  "a bundle elsewhere": linked("containers/one/bundle"),
  "a record that is a pipe": pipe("containers/one/exit.json"),
  "a layer elsewhere": linked("layers/one"),
  "a layer's record elsewhere": linkedTo("layers/one/layer.json", "file"),
  "logs elsewhere": linked("logs"),
  "a log that is a pipe": pipe("logs/1.log"),
};

const ofChecksOnly: Readonly<Record<string, Change>> = {
  "damaged files elsewhere": linked("damaged"),
  "a probe elsewhere": linkedTo("probe", "file"),
  "a spare that is a socket": async (state) => {
    // A socket's address is short.
    const address = path.join(await mkdtemp(path.join(tmpdir(), "skl-")), "s");
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(address, resolve));
    await rm(path.join(state, "spare"), { force: true });
    await rename(address, path.join(state, "spare"));
    await new Promise((resolve) => server.close(resolve));
    await rm(path.dirname(address), { recursive: true });
  },
};

const ofArchivesOnly: Readonly<Record<string, Change>> = {
  "a description that is a pipe": pipe("backup.json"),
  "a description elsewhere": linkedTo("backup.json", "file"),
  "staged files elsewhere": linked("staged"),
  "a volume elsewhere": linked("volumes/one"),
  "a volume's files elsewhere": linked("volumes/one/_data"),
  "a volume's record that is a pipe": pipe("volumes/one/volume.json"),
  "something that no backup has": async (state) => await writeFile(path.join(state, "stranger"), ""),
};

describe("a state that no daemon wrote", () => {
  const directory = scratchDirectory();
  let outside: string;
  let state: string;

  before(async () => {
    outside = path.join(directory, "outside");
    await mkdir(path.join(outside, "log"), { recursive: true });
    for (const name of ["1.log", "log/1.log", "file", "a".repeat(64)]) {
      await writeFile(path.join(outside, name), half);
    }
    state = path.join(directory, "state");
    await (await openState({ directory: state, clock: systemClock })).close();
    await mkdir(path.join(state, "containers/one/upper"), { recursive: true });
    await symlink("/etc", path.join(state, "containers/one/upper/etc"));
    await mkdir(path.join(state, "volumes/data/_data"), { recursive: true });
    execFileSync("mkfifo", [path.join(state, "volumes/data/_data/pipe")]);
  });
  /** A copy of the state, changed; the name is one that no other test has. */
  async function changed(name: string, change: Change): Promise<string> {
    const copy = path.join(directory, name.replaceAll(" ", "-"));
    execFileSync("cp", ["-a", state, copy]);
    await change(copy, outside);
    return copy;
  }

  const outsideNow = async (): Promise<unknown> =>
    await Promise.all(
      (await readdir(outside, { recursive: true }))
        .toSorted()
        .map(async (name) => [
          name,
          await readFile(path.join(outside, name), "hex").catch(() => "directory"),
        ]),
    );

  for (const [name, change] of Object.entries({ ...changes, ...ofChecksOnly })) {
    it(`is not checked or mended: ${name}`, { timeout: 120_000 }, async () => {
      const copy = await changed(`checked ${name}`, change);
      const before = await outsideNow();
      for (const repair of [false, true]) {
        await assert.rejects(checkState(copy, repair), (error) => isErrorKind(error, "invalid"));
      }
      assert.deepEqual(await outsideNow(), before);
    });
  }

  it("may have links and pipes where containers, images and volumes have their files", async () => {
    assert.deepEqual(await checkState(state, true), []);
  });

  async function archived(source: string, ...more: string[]): Promise<string> {
    const file = `${source}.tar`;
    execFileSync("tar", [
      "--create",
      "-P",
      "--file",
      file,
      "-C",
      source,
      ...more,
      ...(await readdir(source)),
    ]);
    return file;
  }
  const described: Change = async (copy) =>
    await writeFile(
      path.join(copy, "backup.json"),
      JSON.stringify({ version: 1, release: "1", volumes: true }),
    );

  for (const [name, change] of Object.entries({ ...changes, ...ofArchivesOnly })) {
    it(`is not restored: ${name}`, { timeout: 120_000 }, async () => {
      const copy = await changed(`archived ${name}`, async (...args) => {
        await described(...args);
        await change(...args);
      });
      await assertNotRestored(await archived(copy));
    });
  }

  for (const [name, transform] of [
    ["a path that begins outside", "s,^spare$,../spare,"],
    ["a path that leads outside", "s,^spare$,db/../../spare,"],
    ["an absolute path", `s,^spare$,/tmp/spare,`],
  ] as const) {
    it(`is not restored: ${name}`, async () => {
      const copy = await changed(`archived ${name}`, described);
      await assertNotRestored(await archived(copy, `--transform=${transform}`));
    });
  }

  async function assertNotRestored(file: string): Promise<void> {
    const before = await outsideNow();
    const target = path.join(directory, `target-${path.basename(file)}`);
    await assert.rejects(restore(target, file));
    assert.deepEqual([await outsideNow(), existsSync(target)], [before, false]);
    const left = (await readdir(directory)).filter((each) => each.startsWith(`${path.basename(target)}.`));
    assert.deepEqual(left, []);
  }

  it("is backed up and restored also where it has nothing but its database", async () => {
    const bare = path.join(directory, "bare");
    const state = await openState({ directory: bare, clock: systemClock });
    await state.close();
    const file = path.join(directory, "bare.tar");
    await backup(bare, file, true);
    const target = path.join(directory, "bare-restored");
    await restore(target, file);
    const restored = await openState({ directory: target, clock: systemClock });
    assert.equal(restored.instanceId, state.instanceId);
    await restored.close();
  });

  it("is its owner's alone once it is restored, whatever the archive says", async () => {
    const copy = await changed("archived with modes", described);
    await chmod(copy, 0o777);
    await chmod(path.join(copy, "volumes"), 0o777);
    const file = `${copy}.tar`;
    execFileSync("tar", ["--create", "--file", file, "-C", copy, "."]);
    const target = path.join(directory, "restored with modes");
    await restore(target, file);
    for (const place of [target, path.join(target, "volumes")]) {
      assert.equal((await stat(place)).mode & 0o777, 0o700);
    }
  });

  it("is none where a backup was made", async () => {
    const file = path.join(directory, "whole.tar");
    await backup(state, file, true);
    const target = path.join(directory, "restored");
    await restore(target, file);
    assert.deepEqual(await checkState(target, true), []);
    assert.ok(existsSync(path.join(target, "containers/one/upper/etc")));
  });
});
