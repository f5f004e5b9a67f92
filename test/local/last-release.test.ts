/**
 * A state directory as version 0.1.0 left it, from before volumes had drivers: a volume with a label and a file, and one of
 * no name. Its records tell where it lay; here they tell where it lies now.
 */
import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";

import { fromBinary, toBinary } from "@bufbuild/protobuf";

import { openDatabase } from "../../src/backends/state/database.ts";
import { VolumeRecordSchema } from "../../src/gen/sockerless/state/v1/state_pb.ts";
import { runCommand } from "../support/command.ts";
import { checkout, Daemon } from "../support/daemon.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import { scratchDirectory } from "../support/scratch.ts";

const formerStateDir = "/tmp/skl-last-release/state";
const archive = join(checkout, "test/fixtures/state/0.1.0-volumes.tar.gz");

test("volumes that were made before there were drivers go on as those of local", async () => {
  const directory = scratchDirectory();
  const stateDir = join(directory, "state");
  await mkdir(stateDir);
  const { code, errorText } = await runCommand("tar", ["-C", stateDir, "-xzf", archive]);
  assert.equal(code, 0, errorText);
  await moveVolumes(stateDir);
  await using daemon = await Daemon.start({ stateDir });
  const [told] = JSON.parse(await daemon.ok("volume", "inspect", "old")) as [Record<string, unknown>];
  assert.deepEqual(
    [told["Driver"], told["Labels"], told["Mountpoint"]],
    ["local", { a: "b" }, join(stateDir, "volumes/old/_data")],
  );
  await daemon.ok("load", "--input", await busyboxArchiveFile());
  for (const name of ["one", "two"]) {
    const ran = await daemon.ok(
      ...["run", "--name", name, "--volume", "old:/data", "busybox", "cat", "/data/file"],
    );
    assert.equal(ran, "kept");
  }
  await daemon.ok("rm", "one", "two");
  assert.match(await daemon.ok("volume", "prune", "--force"), /^[0-9a-f]{64}$/m);
  assert.match(await daemon.ok("volume", "prune", "--all", "--force"), /^old$/m);
});

/** Has records of volumes tell paths in a directory to which the state was moved. */
async function moveVolumes(stateDir: string): Promise<void> {
  const database = await openDatabase(stateDir);
  for (const [key, value] of await database.iterator({ gte: "volume!", lt: 'volume"' }).all()) {
    const record = fromBinary(VolumeRecordSchema, value);
    record.mountpoint = record.mountpoint.replace(formerStateDir, stateDir);
    record.driverReference = record.driverReference.replace(formerStateDir, stateDir);
    await database.put(key, toBinary(VolumeRecordSchema, record));
  }
  await database.close();
}
