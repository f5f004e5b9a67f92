/** The same calls to a real dockerd 20.10 and to sockerless: what differs is intended, and docs/differences.md says why. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { checkout, Daemon } from "../support/daemon.ts";
import { Dockerd } from "../support/dockerd.ts";
import { calls } from "./calls.ts";
import { differencesOf, startContainers } from "./compare.ts";
import { groups, isIntended, unusedRules } from "./intended.ts";
import { groupsOfRelease28 } from "./intended-28.ts";
import { intendedErrors } from "./intended-errors.ts";
import { observe } from "./observe.ts";

/** The newest that dockerd 20.10 knows. */
const version = "v1.41";

/** Heading of what shapes do not show: differences of values, and of calls that are not sent here. */
const notCompared = "What this test does not see";

let dockerd: Dockerd;
let daemon: Daemon;
/** Engines that have to be ended, also where not everything could be started. */
const started: (Dockerd | Daemon)[] = [];

before(async () => {
  dockerd = await Dockerd.start();
  started.push(dockerd);
  daemon = await Daemon.start();
  started.push(daemon);
  await Promise.all(started.map(startContainers));
});
after(async () => {
  await Promise.all(started.map((engine) => engine.stop()));
});

/** ID of the thing that each daemon has made last. */
let theirId = "";
let ourId = "";

for (const [index, call] of calls.entries()) {
  test(`${index} ${call.method} ${call.path} ${call.body === undefined ? "" : JSON.stringify(call.body)}`, async () => {
    const [expected, actual] = await Promise.all([
      observe(dockerd.socket, call, version, theirId),
      observe(daemon.socket, call, version, ourId),
    ]);
    theirId = expected.id ?? theirId;
    ourId = actual.id ?? ourId;
    assert.deepEqual(differencesOf(call, actual, expected, isIntended), []);
  });
}

test("each intended difference has its paragraph, and each rule a difference", async () => {
  const document = await readFile(join(checkout, "docs/differences.md"), "utf8");
  const headings = [...document.matchAll(/^## (.*)$/gm)].map(([, heading]) => heading);
  assert.deepEqual(
    new Set(headings),
    new Set([...[groups, groupsOfRelease28, intendedErrors].flatMap(Object.keys), notCompared]),
  );
  assert.deepEqual(unusedRules(), []);
});
