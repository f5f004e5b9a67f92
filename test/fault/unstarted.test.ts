/**
 * kill -9 of the backend between the creation and the start of a container with --rm: nobody may ever start it. That it
 * goes takes a minute of real time, which only `npm run soak` waits for.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { killAndAwaitNext } from "../support/processes.ts";
import { until } from "../support/until.ts";
import { withDaemon } from "../support/with-daemon.ts";
import { isSoak } from "../support/soak.ts";

const { daemon, ok } = withDaemon();
const exists = async (id: string) => (await daemon.docker("inspect", id)).code === 0;

test("a container with --rm that a kill caught before its start can be started, or goes", async () => {
  const since = String(Date.now() / 1000);
  const create = (...args: string[]) =>
    ok("create", ...args, "--volume", "/data", "busybox", "sleep", "1000");
  const abandoned = await create("--rm");
  const taken = await create("--rm");
  const kept = await create();
  await killAndAwaitNext(daemon, "backend");

  assert.ok(await exists(abandoned), "it has its time");
  await ok("start", taken);
  const volumes = async () => (await ok("volume", "ls", "-q")).split("\n").filter(Boolean).length;
  assert.equal(await volumes(), 3);
  if (isSoak) {
    await until(async () => !(await exists(abandoned)) || undefined);
    assert.ok((await exists(taken)) && (await exists(kept)));
    assert.equal(await volumes(), 2);
  }
  await ok("kill", taken);
  await until(async () => !(await exists(taken)) || undefined);
  const destroyed = await ok(
    ...["events", "--since", since, "--until", String(Date.now() / 1000)],
    ...["--filter", "event=destroy", "--filter", "type=container", "--format", "{{.Actor.ID}}"],
  );
  assert.deepEqual(destroyed.split("\n"), isSoak ? [abandoned, taken] : [taken]);
  assert.ok(await exists(kept));
});
