/** Images that were committed on others, through the real docker CLI. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { before, describe, test } from "node:test";

import { callApi } from "../support/call-api.ts";
import { withDaemon } from "../support/with-daemon.ts";

const { daemon, docker, ok } = withDaemon();

const parentOf = (image: string) => ok("image", "inspect", "--format", "{{.Parent}}", image);
const idsOf = async (...flags: string[]) =>
  (await ok("images", "--quiet", "--no-trunc", ...flags)).split("\n").sort();
const isThere = async (image: string) => (await docker("image", "inspect", image)).code === 0;

/** Commits a container of an image that has one more file; answers the new image's ID. */
async function committed(image: string, file: string, ...name: string[]): Promise<string> {
  const container = await ok("run", "-d", image, "touch", `/${file}`);
  await ok("wait", container);
  const id = await ok("commit", container, ...name);
  await ok("rm", container);
  return id;
}

describe("an image that was committed on another", () => {
  let busybox = "";
  before(async () => {
    busybox = await ok("image", "inspect", "--format", "{{.Id}}", "busybox");
  });

  test("names it as its parent, in inspect, listing and history", async () => {
    const step = await committed("busybox", "one");
    const last = await committed(step, "two", "made:1");
    assert.deepEqual(
      [await parentOf(last), await parentOf(step), await parentOf("busybox")],
      [step, busybox, ""],
    );
    const history = (await ok("history", "--quiet", "--no-trunc", "made:1")).split("\n");
    assert.deepEqual(history.slice(0, 3), [last, step, busybox]);
    const listed = (await callApi(daemon.socket, "GET", "/v1.51/images/json?all=1")).json();
    const parents = (listed as { Id: string; ParentId: string }[]).map(({ Id, ParentId }) => [Id, ParentId]);
    assert.equal(new Map(parents as [string, string][]).get(last), step);
    // A step on the way is listed only when all are asked for, and it dangles no more.
    assert.equal((await idsOf()).includes(step), false);
    assert.equal((await idsOf("--all")).includes(step), true);
    assert.equal((await idsOf("--filter", "dangling=true")).includes(step), false);
    await ok("rmi", "made:1");
  });

  test("keeps it: a name goes, the image cannot be forced away", async () => {
    const step = await committed("busybox", "one", "step:1");
    const last = await committed("step:1", "two", "made:1");
    for (const flags of [[], ["--force"]]) {
      const refused = await docker("rmi", ...flags, step);
      assert.equal(
        refused.errorText.trim(),
        `Error response from daemon: conflict: unable to delete ${step.slice(7, 19)} (cannot be forced) - image has dependent child images`,
      );
    }
    assert.equal(await ok("rmi", "step:1"), "Untagged: step:1");
    assert.equal(await isThere(step), true);
    await ok("image", "prune", "--force");
    assert.equal(await isThere(step), true);
    // With the last that stands on it a nameless one goes too, and one with a name stays.
    const removed = (await ok("rmi", "made:1")).split("\n");
    assert.deepEqual(
      removed.filter((line) => line.includes(last) || line.includes(step)),
      [`Deleted: ${last}`, `Deleted: ${step}`],
    );
    assert.equal(await isThere("busybox"), true);
  });

  test("leaves it where that is asked for, or a container needs it", async () => {
    const step = await committed("busybox", "one");
    const container = await ok("create", step, "true");
    await ok("rmi", await committed(step, "two", "made:1"));
    assert.equal(await isThere(step), true);
    await ok("rm", container);
    await ok("rmi", "--no-prune", await committed(step, "two", "made:1"));
    assert.equal(await isThere(step), true);
    assert.equal((await idsOf("--filter", "dangling=true")).includes(step), true);
    await ok("image", "prune", "--force");
    assert.equal(await isThere(step), false);
  });

  test("is saved with it, and knows it once both are loaded", async () => {
    const step = await committed("busybox", "one");
    const last = await committed(step, "two");
    const archive = join(daemon.directory, "parents.tar");
    await ok("save", "--output", archive, last, step);
    await ok("rmi", last);
    await ok("load", "--input", archive);
    assert.deepEqual([await parentOf(last), await parentOf(step)], [step, ""]);
    await ok("rmi", last);
  });

  test("knows it still after a restart", async () => {
    await committed("busybox", "one", "made:1");
    await daemon.shutDown();
    await daemon.launch();
    assert.equal(await parentOf("made:1"), busybox);
    assert.match((await docker("rmi", "--force", busybox)).errorText, /image has dependent child images/);
    await ok("rmi", "made:1");
  });
});
