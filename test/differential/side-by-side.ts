/** The same calls, one after another, to a dockerd and to sockerless; each is a test. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { compileBuilder } from "../support/builds.ts";
import { Daemon } from "../support/daemon.ts";
import type { Dockerd } from "../support/dockerd.ts";
import { duringTests } from "../support/during-tests.ts";
import { calls } from "./calls.ts";
import { differencesOf, type Intention, startContainers } from "./compare.ts";
import { observe } from "./observe.ts";

/** Registers the tests. `version` as in a path: `v1.41`. */
export function compareSideBySide(
  version: string,
  startDockerd: () => Promise<Dockerd>,
  isIntended: Intention,
): void {
  const engines = duringTests(async (resources) => {
    await compileBuilder(); // for the calls that ask it
    const dockerd = resources.use(await startDockerd());
    const daemon = resources.use(await Daemon.startWithBusybox());
    await Promise.all([dockerd, daemon].map(startContainers));
    return { dockerd, daemon };
  });
  /** ID of the thing that each daemon has made last. */
  let theirId = "";
  let ourId = "";
  for (const [index, call] of calls.entries()) {
    const body = call.body === undefined ? "" : JSON.stringify(call.body);
    test(`${index} ${call.method} ${call.path} ${body}`, async () => {
      const [expected, actual] = await Promise.all([
        observe(engines.dockerd.socket, call, version, theirId),
        observe(engines.daemon.socket, call, version, ourId),
      ]);
      theirId = expected.id ?? theirId;
      ourId = actual.id ?? ourId;
      assert.deepEqual(differencesOf(call, actual, expected, isIntended), []);
    });
  }
}
