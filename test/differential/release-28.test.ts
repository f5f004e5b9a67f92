/**
 * The same calls to a dockerd of the release whose API is advertised, built from moby's module, and to sockerless, at the
 * newest version that both know.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { mobyPrograms } from "../conformance/moby.ts";
import { Dockerd } from "../support/dockerd.ts";
import { isIntended } from "./intended.ts";
import { rulesOfRelease28 } from "./intended-28.ts";
import { compareSideBySide } from "./side-by-side.ts";

compareSideBySide(
  "v1.51",
  async () => Dockerd.startWithBusybox({ programs: await mobyPrograms() }),
  (...difference) => isIntended(...difference) || rulesOfRelease28.covers(...difference),
);

test("each rule has a difference", () => {
  assert.deepEqual(rulesOfRelease28.unused, []);
});
