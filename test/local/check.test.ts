/** `sockerless check` beside containers that run: what killed processes left in the kernel, and an unpacked layer. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, realpath, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";

import { type CommandResult, runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { withDaemon } from "../support/with-daemon.ts";
import { inSoak } from "../support/soak.ts";

const { daemon } = withDaemon();

const check = (...flags: string[]): Promise<CommandResult> =>
  runCommand(join(checkout, "bin/sockerless"), ["check", "--state-dir", daemon.stateDir, ...flags]);
const succeed = async (program: string, ...args: string[]): Promise<void> => {
  const { code, errorText } = await runCommand(program, args);
  assert.equal(code, 0, errorText);
};

/** The file of the image's layers that has a path. */
async function layerWith(file: string): Promise<string> {
  const layers = join(daemon.stateDir, "layers");
  const name = (await readdir(layers)).find((each) => existsSync(join(layers, each, "diff", file)));
  return name ?? assert.fail(`no layer has ${file}`);
}

describe("sockerless check", () => {
  it("takes away what nobody uses, and nothing of a container that runs", inSoak, async () => {
    await daemon.ok("run", "--detach", "--name=running", "--network=none", "busybox", "sleep", "100000");
    const id = await daemon.ok("create", "--name=idle", "busybox", "true");
    await daemon.shutDown();
    assert.equal((await check()).text, "no damage found");

    const merged = `containers/${id}/merged`;
    const target = join(daemon.stateDir, merged);
    await mkdir(target, { recursive: true });
    await succeed("mount", "-t", "tmpfs", "tmpfs", target);
    const tag = createHash("sha256")
      .update(await realpath(daemon.stateDir))
      .digest("hex")
      .slice(0, 8);
    const table = `sockerless_${tag}`;
    await succeed("nft", "add", "table", "inet", table);
    const found = await check();
    assert.deepEqual(
      found.text.split("\n").map((line) => line.split(" ", line.startsWith("nft") ? 4 : 1).join(" ")),
      [merged, `nftables table inet ${table}`],
    );
    assert.equal(found.code, 2);
    const mended = await check("--repair");
    assert.deepEqual([mended.code, mended.errorText], [0, ""]);
    assert.equal((await check()).text, "no damage found");
    await daemon.launch();
    assert.equal(await daemon.ok("exec", "running", "echo", "runs on"), "runs on");
  });

  it("puts a damaged layer aside, which the next start of its container unpacks anew", async () => {
    const md5 = ["md5sum", "/etc/passwd"];
    await daemon.ok("run", "--name=before", "busybox", ...md5);
    const whole = await daemon.ok("logs", "before");
    await daemon.shutDown();
    const layer = await layerWith("etc/passwd");
    const file = join(daemon.stateDir, "layers", layer, "diff/etc/passwd");
    await writeFile(file, "x".repeat((await readFile(file)).length));
    const found = await check("--repair");
    await daemon.launch();
    assert.match(found.text, new RegExp(`^layers/${layer} .*"etc/passwd" has other content: put aside as `));
    assert.equal(await daemon.ok("start", "--attach", "before"), whole);
    assert.equal(await daemon.ok("run", "--rm", "busybox", ...md5), whole);
    await daemon.shutDown();
    const left = await check();
    await daemon.launch();
    assert.deepEqual([left.text, left.errorText], ["no damage found", ""]);
  });
});
