/** State directories that users move or take back to an earlier database while no daemon runs. */
import assert from "node:assert/strict";
import { cp, readFile, rename, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";

import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, ok, inspect } = withDaemon();
const forever = ["sh", "-c", "while :; do sleep 1; done"];

test("a state directory that was moved, with a link in its place, has all volumes", async () => {
  await ok("volume", "create", "--driver=block", "--opt=size=16M", "block");
  await ok("volume", "create", "--opt=type=tmpfs", "--opt=device=tmpfs", "memory");
  const volumes = ["--volume=block:/block", "--volume=plain:/plain", "--volume=memory:/memory"];
  const script =
    "cat /block/file /plain/file; grep -c ' /memory tmpfs' /proc/mounts; echo kept | tee /block/file >/plain/file";
  await ok("create", "--name=has-volumes", ...volumes, "busybox", "sh", "-c", script);
  await daemon.docker("start", "--attach", "has-volumes");
  await daemon.shutDown();
  const moved = `${daemon.stateDir}-moved`;
  await rename(daemon.stateDir, moved);
  await symlink(moved, daemon.stateDir);
  await daemon.launch();
  for (const file of ["/block/file", "/plain/file"]) {
    const copied = join(daemon.directory, "copied");
    await ok("cp", `has-volumes:${file}`, copied);
    assert.equal(await readFile(copied, "utf8"), "kept\n");
  }
  const { text } = await daemon.docker("start", "--attach", "has-volumes");
  assert.equal(text, "kept\nkept\n1");
  await ok("rm", "--force", "--volumes", "has-volumes");
  await daemon.shutDown();
  await rm(daemon.stateDir);
  await rename(moved, daemon.stateDir);
  await daemon.launch();
});

test("an earlier database that is put back gives up no restart policy", async () => {
  await ok("run", "--detach", "--name=policy", "--restart=always", "busybox", ...forever);
  await ok("stop", "--time=0", "policy");
  const [database, earlier] = [join(daemon.stateDir, "db"), join(daemon.directory, "earlier")];
  await daemon.shutDown();
  await cp(database, earlier, { recursive: true });
  await daemon.launch(); // It starts the container by its policy.
  const status = (): Promise<string> => inspect("policy", "{{.State.Status}}");
  await until(async () => (await status()) === "running" || undefined);
  await daemon.shutDown();
  await rm(database, { recursive: true });
  await rename(earlier, database);
  await daemon.launch();
  await until(async () => (await status()) === "running" || undefined);
  await ok("rm", "--force", "policy");
});

test("beside what runs without a record no container gets its address", async () => {
  await ok("network", "create", "kept");
  const [database, earlier] = [join(daemon.stateDir, "db"), join(daemon.directory, "without-it")];
  await daemon.shutDown();
  await cp(database, earlier, { recursive: true });
  await daemon.launch();
  const run = ["run", "--detach", "--network=kept", "busybox", ...forever];
  const address = (id: string): Promise<string> =>
    inspect(id, "{{.NetworkSettings.Networks.kept.IPAddress}}");
  const unknown = await ok(...run);
  const taken = await address(unknown);
  await daemon.shutDown();
  const later = join(daemon.directory, "with-it");
  await rename(database, later);
  await rename(earlier, database);
  await daemon.launch();
  const another = await ok(...run);
  assert.notEqual(await address(another), taken);
  await ok("rm", "--force", another);
  await daemon.shutDown();
  await rm(database, { recursive: true });
  await rename(later, database);
  await daemon.launch();
  assert.equal(await address(unknown), taken);
  await ok("rm", "--force", unknown);
  await ok("network", "rm", "kept");
});
