import assert from "node:assert/strict";
import {
  chmodSync,
  linkSync,
  lstatSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";

import { type Generation, openGeneration, untoldGeneration } from "./generation.ts";

function place(): Disposable & { readonly address: string; readonly file: string; told(): bigint } {
  const directory = mkdtempSync(join(tmpdir(), "skl-generation-"));
  const file = join(directory, "b.sock.generation");
  return {
    address: `unix://${directory}/b.sock`,
    file,
    told: () => readFileSync(file).readBigUInt64LE(),
    [Symbol.dispose]: () => rmSync(directory, { recursive: true }),
  };
}

/** As a kill does: nothing is written any more. */
const killed = (_generation: Generation): void => {};

describe("the generation of a backend's state", () => {
  it("is told by the file, another after each change", async () => {
    using at = place();
    const generation = await openGeneration(at.address);
    const seen = new Set([0n]);
    for (let count = 0; count < 3; count++) {
      assert.equal(at.told(), generation.value);
      assert.ok(!seen.has(generation.value));
      seen.add(generation.value);
      generation.advance();
    }
    assert.equal(lstatSync(at.file).mode & 0o777, 0o600);
    generation.close();
    assert.throws(() => lstatSync(at.file), { code: "ENOENT" });
    assert.equal(generation.value, 0n);
    generation.advance();
  });

  it("has a second number, which the progress of execs leaves as it is", async () => {
    using at = place();
    const generation = await openGeneration(at.address);
    const { value, allButExecs } = generation;
    const told = (): bigint => readFileSync(at.file).readBigUInt64LE(8);
    assert.equal(told(), allButExecs);
    generation.advance(true);
    assert.notEqual(generation.value, value);
    assert.deepEqual([generation.allButExecs, told()], [allButExecs, allButExecs]);
    generation.advance();
    assert.notEqual(generation.allButExecs, allButExecs);
    assert.equal(told(), generation.allButExecs);
    generation.close();
    assert.equal(generation.allButExecs, 0n);
  });

  it("is another in the same file after a backend was killed, since frontends look at that", async () => {
    using at = place();
    const before = await openGeneration(at.address);
    const { ino } = lstatSync(at.file);
    const told = at.told();
    killed(before);
    const after = await openGeneration(at.address);
    assert.equal(lstatSync(at.file).ino, ino);
    assert.notEqual(at.told(), told);
    after.close();
  });

  it("goes on in the file of the backend that serves after another one was refused its address", async () => {
    using at = place();
    const serving = await openGeneration(at.address);
    const refused = await openGeneration(at.address);
    refused.leave();
    refused.close();
    refused.advance();
    serving.advance();
    assert.equal(at.told(), serving.value);
    serving.close();
  });

  it("is not told in a file that somebody else could write", async () => {
    for (const plant of [
      (file: string, other: string) => symlinkSync(other, file),
      (file: string, other: string) => linkSync(other, file),
      (file: string) => {
        writeFileSync(file, "");
        chmodSync(file, 0o666);
      },
    ]) {
      using at = place();
      const other = `${at.file}.other`;
      writeFileSync(other, "theirs", { mode: 0o600 });
      plant(at.file, other);
      const generation = await openGeneration(at.address);
      assert.equal(readFileSync(other, "utf8"), "theirs");
      const { mode, nlink } = lstatSync(at.file);
      assert.deepEqual([mode & 0o777, nlink], [0o600, 1]);
      assert.equal(at.told(), generation.value);
      generation.close();
    }
  });

  it("is told to nobody where the file cannot be made", async () => {
    using at = place();
    writeFileSync(at.file.replace(".generation", ""), "");
    assert.equal(await openGeneration(`${at.address}/below`), untoldGeneration);
  });

  it("of a backend on TCP is told to nobody", async () => {
    assert.equal(await openGeneration("tcp://127.0.0.1:0"), untoldGeneration);
  });
});
