/** Tests of a user's first day with the ECS backend, on whatever AWS the daemon has. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { it } from "node:test";

import type { Daemon } from "../support/daemon.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import { sampled } from "../support/soak.ts";
import { until } from "../support/until.ts";

/**
 * Registers the tests, which build on one another.
 *
 * @param isWhole whether `npm test` runs all of them here; else the first ones
 */
export function testSession(daemon: () => Daemon, isWhole: boolean): void {
  const later = sampled(isWhole);
  const ok = (...args: string[]): Promise<string> => daemon().ok(...args);
  const inspect = (format: string, name: string): Promise<string> => ok("inspect", "--format", format, name);

  it("puts a loaded image into the repository, and runs it", async () => {
    await ok("load", "--input", await busyboxArchiveFile());
    assert.equal(await ok("run", "--rm", "busybox", "echo", "from a task"), "from a task");
    const { code } = await daemon().docker("run", "--rm", "busybox", "sh", "-c", "exit 7");
    assert.equal(code, 7);
  });

  it("creates, starts, executes, copies and tells the log", async () => {
    const script =
      "echo out; echo err >&2; cat /before; trap 'echo bye; exit 0' TERM; while :; do sleep 1; done";
    await ok("create", "--name", "life", "--env", "COLOUR=green", "busybox", "sh", "-c", script);
    const scratch = await mkdtemp(join(tmpdir(), "skl-session-"));
    try {
      await writeFile(join(scratch, "before"), "put before the start\n");
      await ok("cp", join(scratch, "before"), "life:/before");
      await ok("start", "life");
      await until(async () => /put before/.test(await ok("logs", "life")) || undefined);
      assert.equal(await ok("exec", "life", "sh", "-c", "echo $COLOUR; echo made > /made"), "green");
      await ok("cp", "life:/made", join(scratch, "made"));
      assert.equal(await readFile(join(scratch, "made"), "utf8"), "made\n");
      await mkdir(join(scratch, "tree"));
      await writeFile(join(scratch, "tree/leaf"), "leaf\n");
      await ok("cp", join(scratch, "tree"), "life:/");
      assert.equal(await ok("exec", "life", "cat", "/tree/leaf"), "leaf");
    } finally {
      await rm(scratch, { recursive: true });
    }
    const { text, errorText } = await daemon().docker("logs", "life");
    assert.equal(text, "out\nput before the start");
    assert.equal(errorText, "err");
    assert.match(await ok("top", "life"), /sleep 1|sh -c/);
  });

  it("stops, restarts, pauses and commits", later, async () => {
    await ok("stop", "life");
    assert.equal(await inspect("{{.State.Status}} {{.State.ExitCode}}", "life"), "exited 0");
    assert.match(await ok("logs", "life"), /bye$/);
    await ok("commit", "life", "kept:1");
    assert.equal(await ok("run", "--rm", "kept:1", "cat", "/made"), "made");
    await ok("start", "life");
    await ok("restart", "--timeout", "5", "life");
    assert.equal(await inspect("{{.State.Status}}", "life"), "running");
    await ok("pause", "life");
    await ok("unpause", "life");
    await ok("rm", "--force", "life");
    await ok("rmi", "kept:1");
  });

  it("keeps volumes, and directories of them", later, async () => {
    await ok("volume", "create", "--label", "of=session", "data");
    await ok(
      ...["run", "--rm", "--volume", "data:/data", "busybox"],
      ...["sh", "-c", "mkdir /data/part; echo kept > /data/part/file"],
    );
    assert.equal(
      await ok("run", "--rm", "--volume", "data:/data", "busybox", "cat", "/data/part/file"),
      "kept",
    );
    const part = "type=volume,source=data,target=/part,volume-subpath=part";
    assert.equal(await ok("run", "--rm", "--mount", part, "busybox", "cat", "/part/file"), "kept");
    await ok("volume", "rm", "data");
    assert.equal(await ok("volume", "ls", "--quiet"), "");
  });

  it("connects containers on networks, by name", later, async () => {
    await ok("network", "create", "apart");
    const serve = "echo hello > /index.html; exec httpd -f -p 80 -h /";
    await ok("run", "--detach", "--name", "server", "--network", "apart", "busybox", "sh", "-c", serve);
    const ask = "until wget -q -O - http://server/index.html; do sleep 1; done";
    assert.equal(await ok("run", "--rm", "--network", "apart", "busybox", "sh", "-c", ask), "hello");
    await ok("network", "create", "--internal", "second");
    await ok("network", "connect", "--alias", "other", "second", "server");
    await ok("network", "disconnect", "second", "server");
    await ok("rm", "--force", "server");
    await ok("network", "rm", "apart", "second");
  });

  it("finds its containers again after its state directory was lost", later, async () => {
    const id = await ok(
      ...["run", "--detach", "--name", "left", "--label", "of=session", "busybox", "sleep", "1000"],
    );
    await daemon().shutDown();
    await rm(daemon().stateDir, { recursive: true });
    await daemon().launch();
    const adopted = await until(async () => (await ok("ps", "--quiet", "--no-trunc")) || undefined);
    assert.equal(adopted, id);
    assert.equal(await inspect("{{.Name}} {{.Config.Labels.of}}", id), "/left session");
    assert.equal(await ok("exec", "left", "echo", "still here"), "still here");
    await ok("rm", "--force", "left");
  });
}
