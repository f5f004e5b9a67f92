/**
 * Damage at random in the files of a state directory; the same for the same SOCKERLESS_SEED. A few runs here, many with
 * SOCKERLESS_SOAK=1.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import fs, { chown, lstat, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import path from "node:path";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { openDatabase } from "../backends/state/database.ts";
import { schemaKey } from "../backends/state/keys.ts";
import { openState, type State } from "../backends/state/state.ts";
import { crc32c } from "../common/crc32c.ts";
import { systemClock } from "../common/clock.ts";
import {
  ContainerRecordSchema,
  NetworkRecordSchema,
  VolumeRecordSchema,
} from "../gen/sockerless/state/v1/state_pb.ts";
import { checkState } from "./check.ts";
import { scratchDirectory } from "../../test/support/scratch.ts";

const runs = process.env["SOCKERLESS_SOAK"] === "1" ? 300 : 6;
const seed = process.env["SOCKERLESS_SEED"] ?? "1";
const volumes = Array.from({ length: 20 }, (_, index) => `volume-${index}`);
const blob = Buffer.from("content of a blob");
const digest = createHash("sha256").update(blob).digest("hex");

/** Whole numbers that their name alone decides. */
function numbers(name: string): (limit: number) => number {
  let drawn = 0;
  return (limit) => createHash("sha256").update(`${name} ${drawn++}`).digest().readUIntBE(0, 6) % limit;
}

function logRecord(data: string): Buffer {
  const header = Buffer.alloc(20);
  header.writeUInt16LE(0x4c53, 0);
  header.writeUInt8(1, 2);
  header.writeUInt32LE(data.length, 4);
  header.writeBigInt64LE(1n, 8);
  header.writeUInt32LE(crc32c(Buffer.from(data), crc32c(header.subarray(0, 16))), 16);
  const trailer = Buffer.alloc(4);
  trailer.writeUInt32LE(data.length);
  return Buffer.concat([header, Buffer.from(data), trailer]);
}

const log = Buffer.concat(["a line\n", "another\n"].map(logRecord));
const record = Buffer.from(JSON.stringify({ version: 1, state: { started: true } }));

/** Files beside the database, by their paths: content, records of the host process and the shims, logs. */
const files: Readonly<Record<string, Buffer>> = {
  [`blobs/sha256/${digest}`]: blob,
  "layers/abc/layer.json": record,
  "containers/one/rootfs.json": record,
  "containers/one/shim.json": record,
  "containers/one/begun.json": record,
  "containers/one/exit.json": record,
  "containers/one/bundle/config.json": record,
  "containers/one/log/0000000000000001.log": log,
  "logs/one.1.agent.1.log": log,
  "volumes/volume-1/volume.json": record,
};

async function makeState(): Promise<string> {
  const directory = scratchDirectory();
  // Each opening makes a table of what the log has.
  for (const part of [volumes.slice(0, 10), volumes.slice(10, 15), volumes.slice(15)]) {
    const state = await open(directory);
    for (const name of part) {
      await state.commit((change) => change.volumes.put(create(VolumeRecordSchema, { name })));
    }
    await state.close();
  }
  for (const [file, content] of Object.entries(files)) {
    await mkdir(path.dirname(path.join(directory, file)), { recursive: true });
    await writeFile(path.join(directory, file), content);
  }
  return directory;
}

const open = (directory: string): Promise<State> => openState({ directory, clock: systemClock });

async function volumesIn(directory: string): Promise<readonly string[]> {
  const state = await open(directory);
  const names = [...state.volumes.values()].map(({ name }) => name);
  await state.close();
  return names;
}

describe("sockerless check", () => {
  it("finds nothing in a whole state directory, and changes nothing", async () => {
    const directory = await makeState();
    assert.deepEqual(await checkState(directory, true), []);
    assert.deepEqual(new Set(await volumesIn(directory)), new Set(volumes));
  });

  it("finds nothing where there is no state yet", async () => {
    const directory = scratchDirectory();
    assert.deepEqual(await checkState(directory, false), []);
  });

  it("removes a record that keeps the daemon from starting, with a copy", async () => {
    const directory = await makeState();
    const database = await openDatabase(directory);
    await database.put("volume!broken", new Uint8Array([0xff, 0xff]));
    await database.close();
    await assert.rejects(open(directory), /sockerless check --repair/);
    assert.match((await checkState(directory, false))[0]?.outcome ?? "", /--repair removes it/);
    const [found, ...others] = await checkState(directory, true);
    assert.deepEqual([found?.what, others], ["volume!broken", []]);
    assert.equal((await readdir(path.join(directory, "set-aside"))).length, 1);
    assert.deepEqual(new Set(await volumesIn(directory)), new Set(volumes));
  });

  it("leaves the records of a newer version alone", async () => {
    const directory = await makeState();
    const database = await openDatabase(directory);
    await database.put(schemaKey, new TextEncoder().encode("1000"));
    await database.put("volume!newer", new Uint8Array([0xff, 0xff]));
    await database.close();
    for (const repair of [false, true]) {
      await assert.rejects(checkState(directory, repair), /was written by a newer sockerless.*left as it is/);
    }
    const after = await openDatabase(directory);
    assert.deepEqual([...((await after.get("volume!newer")) ?? [])], [0xff, 0xff]);
    await after.close();
  });

  it("takes an address that two containers have off the one that is younger, with a copy", async () => {
    const directory = await makeState();
    const state = await open(directory);
    await state.commit((change) => {
      const network = { id: "net", name: "shop", pools: [{ subnet: "172.18.0.0/16" }] };
      change.networks.put(create(NetworkRecordSchema, { network }));
      for (const [index, id] of ["old", "new"].entries()) {
        const endpoints = { shop: { networkId: "net", ipAddress: "172.18.0.2", ipPrefixLen: 16 } };
        const created = { seconds: BigInt(index) };
        change.containers.put(create(ContainerRecordSchema, { id, name: id, created, endpoints }));
      }
    });
    await state.close();
    const [told, ...rest] = await checkState(directory, false);
    assert.deepEqual([told?.what, rest], ["container!new", []]);
    assert.match((await checkState(directory, true))[0]?.outcome ?? "", /^taken off it/);
    assert.deepEqual(await checkState(directory, false), []);
    const mended = await open(directory);
    const addresses = [...mended.containers.values()].map((each) => [
      each.id,
      each.endpoints["shop"]?.ipAddress,
    ]);
    await mended.close();
    assert.deepEqual(
      new Map(addresses as [string, string][]),
      new Map([
        ["old", "172.18.0.2"],
        ["new", ""],
      ]),
    );
    assert.equal((await readdir(path.join(directory, "set-aside"))).length, 1);
  });

  it("leaves a log that ends in half a record, which a running container may be writing", async () => {
    const directory = await makeState();
    const begun = log.subarray(0, log.length - 1);
    for (const file of Object.keys(files).filter((each) => each.endsWith(".log"))) {
      await writeFile(path.join(directory, file), begun);
    }
    const outcomes = (await checkState(directory, true)).map(({ outcome }) => outcome);
    assert.deepEqual(outcomes, Array(2).fill("left: not shown, and the container's next output cuts it off"));
    for (const file of Object.keys(files).filter((each) => each.endsWith(".log"))) {
      assert.deepEqual(await readFile(path.join(directory, file)), begun);
    }
  });

  it("names each file that the disk does not read any more", { skip: process.getuid?.() !== 0 }, async () => {
    const directory = await makeState();
    const lost = [
      `blobs/sha256/${digest}`,
      "containers/one/exit.json",
      "containers/one/log/0000000000000001.log",
      "layers/abc/layer.json",
    ];
    const mounted = lost.map((file) => path.join(directory, file));
    try {
      for (const file of mounted) {
        // The first page of this process cannot be read: EIO.
        assert.equal(spawnSync("mount", ["--bind", `/proc/${process.pid}/mem`, file]).status, 0);
      }
      const found = await checkState(directory, false);
      assert.deepEqual(
        found.map(({ what }) => what),
        lost,
      );
    } finally {
      spawnSync("umount", mounted);
    }
  });

  it("keeps backends out as long as it repairs", async (t) => {
    const directory = await makeState();
    await writeFile(path.join(directory, `blobs/sha256/${digest}`), "damaged");
    const opened: string[] = [];
    const begin = `
      const { openState } = await import("./src/backends/state/state.ts");
      const { systemClock } = await import("./src/common/clock.ts");
      await openState({ directory: process.argv[1], clock: systemClock, lockWaitMs: 0 });`;
    const putAside = fs.rename;
    t.mock.method(fs, "rename", async (from: string, to: string) => {
      const args = ["--import", "tsx", "--input-type=module", "--eval", begin, directory];
      opened.push(spawnSync(process.execPath, args, { encoding: "utf8" }).stderr);
      await putAside(from, to);
    });
    syncBuiltinESMExports();
    try {
      await checkState(directory, true);
    } finally {
      t.mock.restoreAll();
      syncBuiltinESMExports();
    }
    assert.equal(opened.length, 1);
    assert.match(opened[0] ?? "", /in use by another sockerless backend/);
    assert.deepEqual(new Set(await volumesIn(directory)), new Set(volumes));
  });

  it("leaves a directory of another user to that user", {
    skip: process.getuid?.() !== 0,
  }, async () => {
    const directory = await makeState();
    for (const name of ["", ...(await readdir(directory, { recursive: true }))]) {
      await chown(path.join(directory, name), 65_534, 65_534);
    }
    await writeFile(path.join(directory, "db/CURRENT"), "damaged");
    assert.equal((await checkState(directory, true)).length, 1);
    for (const name of await readdir(directory, { recursive: true })) {
      const { uid, gid } = await lstat(path.join(directory, name));
      assert.deepEqual([uid, gid], [65_534, 65_534], name);
    }
  });

  for (let run = 0; run < runs; run++) {
    it(`names the file that was damaged, mends it and loses nothing else (${seed}.${run})`, async () => {
      const directory = await makeState();
      const below = numbers(`${seed} ${run}`);
      const database = (await readdir(path.join(directory, "db")))
        .filter((name) => /^(CURRENT|MANIFEST-\d+|\d+\.(ldb|log))$/.test(name))
        .map((name) => `db/${name}`);
      const candidates = [...Object.keys(files), ...database];
      const file = candidates[below(candidates.length)] ?? assert.fail();
      const content = await readFile(path.join(directory, file));
      const cut = below(2) === 0;
      const at = below(content.length);
      const isPadding = !cut && isPaddingOf(file, content, at);
      content.writeUInt8(content.readUInt8(at) ^ (1 + below(255)), at);
      await writeFile(path.join(directory, file), cut ? content.subarray(0, at) : content);

      const found = await checkState(directory, false);
      const where = `${file} ${cut ? "cut at" : "changed at"} ${at}`;
      const isHarmless = isPadding || isWholeAnyway(file, await readFile(path.join(directory, file)));
      // A log that is cut where a record ends is whole, and so is a manifest.
      if (!(isHarmless || (cut && found.length === 0 && /\.log$|MANIFEST/.test(file)))) {
        // A damaged CURRENT may lead to a manifest that is not there.
        const names = found.map(({ what }) =>
          file === "db/CURRENT" && what.startsWith("db/MANIFEST") ? file : what,
        );
        assert.deepEqual(names, [file], where);
      }
      await checkState(directory, true);
      const kept = new Set(await volumesIn(directory));
      // Manifest and CURRENT follow from the tables.
      assert.ok(/^db\/\d/.test(file) || kept.size === volumes.length, `${where}: ${[...kept].join()}`);
      assert.ok([...kept].every((name) => volumes.includes(name)));
      for (const [other, whole] of Object.entries(files)) {
        if (other !== file) {
          assert.deepEqual(await readFile(path.join(directory, other)), whole);
        }
      }
      const left = (await checkState(directory, false)).filter(({ outcome }) => !outcome.startsWith("left"));
      assert.deepEqual(left, []);
    });
  }
});

/** Whether a byte is one of a table's footer that nothing reads: zeros between the places of blocks and the magic number. */
function isPaddingOf(file: string, whole: Buffer, at: number): boolean {
  const end = whole.length - 8;
  return file.endsWith(".ldb") && at < end && whole.subarray(at, end).every((byte) => byte === 0);
}

/** Whether a change cannot be told: a record with another value, or a file that was cut where a record ends. */
function isWholeAnyway(file: string, content: Buffer): boolean {
  if (file.endsWith(".json")) {
    try {
      return content.length === 0 || (JSON.parse(content.toString()) as unknown) instanceof Object;
    } catch {
      return false;
    }
  }
  return content.length === 0 && !file.startsWith("blobs/");
}
