/** `sockerless gc` on this machine: what upgrades, repairs, backups and restores have left. */
import assert from "node:assert/strict";
import { access, mkdir, readdir, rm, symlink, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { before, describe, it } from "node:test";

import { systemClock } from "../../src/common/clock.ts";
import { openState, type State } from "../../src/backends/state/state.ts";
import { type CommandResult, runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { scratchDirectory } from "../support/scratch.ts";

describe("gc", () => {
  const directory = scratchDirectory();
  let stateDir: string;
  before(async () => {
    stateDir = join(directory, "state");
  });
  const gc = (...args: string[]): Promise<CommandResult> =>
    runCommand(join(checkout, "bin/sockerless"), ["gc", "--state-dir", stateDir, ...args]);
  const open = (): Promise<State> => openState({ directory: stateDir, clock: systemClock });
  const isThere = (path: string): Promise<boolean> =>
    access(path).then(
      () => true,
      () => false,
    );

  it("is refused where no daemon has run, and where one runs", async () => {
    const never = await gc();
    assert.equal(never.code, 1);
    assert.match(never.errorText, /no backend has run on the state/);
    const state = await open();
    const running = await gc("--remove");
    await state.close();
    assert.equal(running.code, 1);
    assert.match(running.errorText, /in use by another sockerless backend, or by .*: stop it first/);
    assert.deepEqual([(await gc()).text, (await gc()).code], ["", 0]);
  });

  it("is refused where the database is a link, behind which nothing is made", async () => {
    const [linked, elsewhere] = [join(directory, "linked"), join(directory, "elsewhere")];
    await mkdir(linked);
    await mkdir(elsewhere);
    await symlink(elsewhere, join(linked, "db"));
    const { code, errorText } = await gc("--state-dir", linked);
    assert.equal(code, 1);
    assert.match(errorText, /db in .* is a symbolic link: no daemon has written it, and nothing was changed/);
    assert.deepEqual([await readdir(linked), await readdir(elsewhere)], [["db"], []]);
    await rm(linked, { recursive: true });
    await rm(elsewhere, { recursive: true });
  });

  it("shows what is left, and removes it where that is asked for", async () => {
    const upgrade = join(stateDir, "before-upgrade", "schema-1");
    const aside = join(stateDir, "damaged", "2026-01-02T030405.678Z");
    const lost = join(stateDir, "set-aside", "2026-01-02T030405.678Z");
    const old = [join(stateDir, ".backup-old"), `${stateDir}.restore-old`];
    const kept = [join(stateDir, ".backup-new"), `${stateDir}.restore-new`, join(directory, "other")];
    for (const each of [upgrade, aside, lost, ...old, ...kept]) {
      await mkdir(each, { recursive: true });
      await writeFile(join(each, "file"), Buffer.alloc(1024 ** 2));
    }
    for (const each of old) {
      await utimes(each, 1, 1);
    }
    const line = (outcome: string, path: string, purpose: string): string =>
      `${outcome}: directory ${path} (${purpose}, 1.0 MiB)`;
    const told = (outcome: string): string[] => [
      line(outcome, upgrade, "the database from before an upgrade"),
      line(outcome, aside, "damaged files that a repair has put aside"),
      `${line("left", lost, "a database that was damaged")}: \`docker container prune\` lets it go, with what it may know`,
      line(outcome, old[0] ?? "", "a backup that was not finished"),
      line(outcome, old[1] ?? "", "a restore that was not finished"),
    ];
    assert.deepEqual((await gc()).text.split("\n"), told("found"));
    assert.ok(await isThere(upgrade));
    const json = JSON.parse((await gc("--format=json")).text) as readonly Record<string, unknown>[];
    assert.deepEqual(json[0], {
      ...{ outcome: "found", kind: "directory", id: upgrade },
      ...{ purpose: "the database from before an upgrade", bytes: 1024 ** 2 },
    });
    assert.deepEqual((await gc("--remove")).text.split("\n"), told("removed"));
    assert.equal((await gc()).text, told("left")[2]);
    assert.deepEqual(await Promise.all([upgrade, aside, ...old].map(isThere)), [false, false, false, false]);
    assert.deepEqual(await Promise.all([lost, ...kept].map(isThere)), [true, true, true, true]);
  });
});
