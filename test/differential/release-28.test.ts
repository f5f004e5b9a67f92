/**
 * The same calls to a dockerd of the release whose API is advertised, built from moby's module, and to sockerless, at the
 * newest version that both know.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { mobyPrograms } from "../conformance/moby.ts";
import { Daemon } from "../support/daemon.ts";
import { Dockerd } from "../support/dockerd.ts";
import { calls } from "./calls.ts";
import { differencesOf, type Intention, startContainers } from "./compare.ts";
import { isIntended as isIntendedOfBoth } from "./intended.ts";
import { isIntendedOfRelease28, unusedOfRelease28 } from "./intended-28.ts";
import { observe } from "./observe.ts";

const version = "v1.51";

let dockerd: Dockerd;
let daemon: Daemon;
/** Engines that have to be ended, also where not everything could be started. */
const started: (Dockerd | Daemon)[] = [];

before(async () => {
  dockerd = await Dockerd.start(undefined, await mobyPrograms());
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
    const isIntended: Intention = (...difference) =>
      isIntendedOfBoth(...difference) || isIntendedOfRelease28(...difference);
    assert.deepEqual(differencesOf(call, actual, expected, isIntended), []);
  });
}

test("each rule has a difference", () => {
  assert.deepEqual(unusedOfRelease28(), []);
});
