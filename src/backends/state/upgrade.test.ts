import assert from "node:assert/strict";
import { cp, readdir, rm } from "node:fs/promises";
import { afterEach, beforeEach, describe, it } from "node:test";

import { create, toBinary } from "@bufbuild/protobuf";

import { ManualClock } from "../../common/manual-clock.ts";
import { VolumeRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import { locationOf, openDatabase, type Operation } from "./database.ts";
import { schemaKey, tableRange } from "./keys.ts";
import { type Migration, migrations } from "./migrations.ts";
import { openState, type State } from "./state.ts";
import { copyBeforeUpgrade } from "./upgrade.ts";
import { scratchDirectory } from "../../../test/support/scratch.ts";

/** Renames the volumes, from what the state has at that step. */
const suffix = (end: string): Migration => ({
  description: `put ${end} behind the names of volumes`,
  async plan(source) {
    const operations: Operation[] = [];
    for await (const [key] of source.entries(tableRange("volume"))) {
      const name = `${key.slice("volume!".length)}${end}`;
      const value = toBinary(VolumeRecordSchema, create(VolumeRecordSchema, { name }));
      operations.push({ type: "del", key }, { type: "put", key: `volume!${name}`, value });
    }
    return operations;
  },
});

describe("the state of an earlier version", () => {
  let directory: string;
  let state: State | undefined;

  const open = async (steps: readonly Migration[] = migrations): Promise<State> => {
    state = await openState({ directory, clock: new ManualClock(), migrations: steps });
    return state;
  };
  const close = async (): Promise<void> => {
    await state?.close();
    state = undefined;
  };
  const names = (of: State): string[] => [...of.volumes.values()].map(({ name }) => name);

  beforeEach(async () => {
    directory = scratchDirectory();
    const first = await open();
    await first.commit((change) => change.volumes.put(create(VolumeRecordSchema, { name: "data" })));
    await close();
  });
  afterEach(() => close());

  it("is taken up by all steps together, each after the one before", async () => {
    assert.deepEqual(names(await open([...migrations, suffix("-2"), suffix("-3")])), ["data-2-3"]);
  });

  it("has a copy beside it, with which the version before goes on", async () => {
    await open([...migrations, suffix("-2")]);
    await close();
    await assert.rejects(open(), /put back the copy from before the upgrade, in \S+before-upgrade/);
    await rm(locationOf(directory), { recursive: true });
    await cp(copyBeforeUpgrade(directory, migrations.length), locationOf(directory), { recursive: true });
    assert.deepEqual(names(await open()), ["data"]);
  });

  it("is as it was after a step that fails, and the next start takes it up", async () => {
    const broken: Migration = { description: "", plan: () => Promise.reject(new Error("broken")) };
    await assert.rejects(open([...migrations, suffix("-2"), broken]), /broken/);
    const database = await openDatabase(directory);
    assert.equal(new TextDecoder().decode(await database.get(schemaKey)), String(migrations.length));
    await database.close();
    assert.deepEqual(names(await open([...migrations, suffix("-2")])), ["data-2"]);
  });

  it("is copied only for an upgrade", async () => {
    await open();
    assert.ok(!(await readdir(directory)).includes("before-upgrade"));
  });
});
