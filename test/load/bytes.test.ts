/**
 * Equal bytes in and out, by every way there is, while another client stalls; 256 MiB with SOCKERLESS_SOAK=1, else 8.
 */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { Socket } from "node:net";
import { withDaemon } from "../support/with-daemon.ts";
import { createExec, stalled } from "./stream-client.ts";
import { isSoak } from "../support/soak.ts";

const { daemon } = withDaemon();
const size = (isSoak ? 256 : 8) * 1024 * 1024;
const content = randomBytes(size);
const digest = sha256(content);

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

describe(`${size / 1024 / 1024} MiB, while another client does not read`, () => {
  let idle: Socket;
  before(async () => {
    await daemon.ok("run", "-d", "--name=bytes", "busybox", "sleep", "1000000");
    const endless = await createExec(daemon.socket, "bytes", ["yes"]);
    idle = await stalled(daemon.socket, "POST", `/exec/${endless}/start`, {});
    await writeFile(join(daemon.directory, "content"), content);
  });
  after(() => idle.destroy());

  test("through an exec's standard input", async () => {
    const told = await daemon.dockerWith({ input: content }, "exec", "-i", "bytes", "sha256sum");
    assert.equal(told.text.split(" ")[0], digest);
  });

  test("by cp in, an exec's standard output, and cp out", async () => {
    await daemon.ok("cp", join(daemon.directory, "content"), "bytes:/content");
    assert.equal((await daemon.ok("exec", "bytes", "sha256sum", "/content")).split(" ")[0], digest);
    const { stdout, code } = await daemon.docker("exec", "bytes", "cat", "/content");
    assert.deepEqual([code, sha256(stdout)], [0, digest]);
    await daemon.ok("cp", "bytes:/content", join(daemon.directory, "back"));
    assert.equal(sha256(await readFile(join(daemon.directory, "back"))), digest);
  });

  test("through an attached run, in and out", async () => {
    const { stdout, code } = await daemon.dockerWith(
      { input: content },
      "run",
      "--rm",
      "-i",
      "busybox",
      "cat",
    );
    assert.deepEqual([code, sha256(stdout)], [0, digest]);
  });
});
