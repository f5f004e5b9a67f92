/** The same calls, one after another, to a dockerd and to sockerless; each is a test. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { compileBuilder } from "../support/builds.ts";
import { Daemon } from "../support/daemon.ts";
import type { Dockerd } from "../support/dockerd.ts";
import { calls } from "./calls.ts";
import { differencesOf, type Intention, startContainers } from "./compare.ts";
import { observe } from "./observe.ts";

/** Registers the tests. `version` as in a path: `v1.41`. */
export function compareSideBySide(
  version: string,
  startDockerd: () => Promise<Dockerd>,
  isIntended: Intention,
): void {
  let dockerd: Dockerd;
  let daemon: Daemon;
  /** Engines that have to be ended, also where not everything could be started. */
  const started: (Dockerd | Daemon)[] = [];
  before(async () => {
    await compileBuilder(); // for the calls that ask it
    dockerd = await startDockerd();
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
    const body = call.body === undefined ? "" : JSON.stringify(call.body);
    test(`${index} ${call.method} ${call.path} ${body}`, async () => {
      const [expected, actual] = await Promise.all([
        observe(dockerd.socket, call, version, theirId),
        observe(daemon.socket, call, version, ourId),
      ]);
      theirId = expected.id ?? theirId;
      ourId = actual.id ?? ourId;
      assert.deepEqual(differencesOf(call, actual, expected, isIntended), []);
    });
  }
}
