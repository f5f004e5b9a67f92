import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { ftruncateSync, mkdirSync, openSync, writeFileSync, writeSync } from "node:fs";
import path from "node:path";
import { describe, it } from "node:test";

import { TarCheck } from "./tar-check.ts";
import { scratchDirectory } from "../../../test/support/scratch.ts";

const directory = scratchDirectory();

const longName = `${"n".repeat(90)}/${"m".repeat(120)}`;
mkdirSync(path.join(directory, "files", path.dirname(longName)), { recursive: true });
writeFileSync(path.join(directory, "files", longName), "long");
writeFileSync(path.join(directory, "files", "short"), "x".repeat(700));
const sparse = openSync(path.join(directory, "files", "sparse"), "w");
for (let hole = 0; hole < 40; hole++) {
  writeSync(sparse, "data", hole * 1024 ** 2); // More pieces than one header has room for.
}
ftruncateSync(sparse, 50 * 1024 ** 2);

function tar(...options: string[]): Buffer {
  return execFileSync("tar", [...options, "-C", path.join(directory, "files"), "-cf", "-", "."], {
    maxBuffer: 128 * 1024 ** 2,
  });
}

/** Checks in pieces of so many bytes. */
function check(bytes: Uint8Array, piece = 10_000): void {
  const checked = new TarCheck();
  for (let at = 0; at < bytes.length; at += piece) {
    checked.write(bytes.subarray(at, at + piece));
  }
  checked.end();
}

describe("the check of a tar", () => {
  for (const format of ["gnu", "oldgnu", "pax", "posix"]) {
    it(`takes ${format} tars with files that have holes, however they come`, () => {
      const archive = tar(`--format=${format}`, "--sparse");
      for (const piece of [7, 512, 10_000]) {
        check(archive, piece);
      }
    });
  }

  it("refuses a tar that ends within a header, content or hole map", () => {
    const archive = tar("--format=gnu", "--sparse");
    const sparseAt = archive.indexOf("./sparse");
    for (const end of [100, sparseAt + 300, sparseAt + 512, sparseAt + 700]) {
      assert.throws(() => check(archive.subarray(0, end)), { kind: "invalid", message: "unexpected EOF" });
    }
    const records = tar("--format=pax");
    const shortAt = records.indexOf("x".repeat(700));
    assert.throws(() => check(records.subarray(0, shortAt + 600)), { message: "unexpected EOF" });
    assert.throws(() => check(records.subarray(0, 512)), { message: "unexpected EOF" });
  });

  it("accepts a tar without zero blocks at its end, or with anything after them", () => {
    check(Buffer.alloc(0));
    check(Buffer.alloc(512));
    check(Buffer.concat([Buffer.alloc(1024), Buffer.from("anything")]));
  });

  it("refuses a header whose sum is wrong, and one behind a block of zeros", () => {
    const archive = tar();
    const broken = Buffer.from(archive);
    broken[0] = 0x41;
    const refusal = { kind: "invalid", message: "archive/tar: invalid tar header" };
    assert.throws(() => check(broken), refusal);
    assert.throws(() => check(Buffer.concat([Buffer.alloc(512), archive])), refusal);
  });
});
