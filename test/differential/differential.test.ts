/** The same calls to a real dockerd 20.10 and to sockerless: what differs is intended, and docs/differences.md says why. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { checkout } from "../support/daemon.ts";
import { Dockerd } from "../support/dockerd.ts";
import { isIntended, rulesOfBoth, unusedRules } from "./intended.ts";
import { rulesOfRelease28 } from "./intended-28.ts";
import { intendedErrors } from "./intended-errors.ts";
import { compareSideBySide } from "./side-by-side.ts";

/** Heading of what shapes do not show: differences of values, and of calls that are not sent here. */
const notCompared = "What this test does not see";

// The newest version that dockerd 20.10 knows.
compareSideBySide("v1.41", () => Dockerd.startWithBusybox(), isIntended);

test("each intended difference has its paragraph, and each rule a difference", async () => {
  const document = await readFile(join(checkout, "docs/differences.md"), "utf8");
  const headings = [...document.matchAll(/^## (.*)$/gm)].map(([, heading]) => heading);
  assert.deepEqual(
    new Set(headings),
    new Set([
      ...rulesOfBoth.headings,
      ...rulesOfRelease28.headings,
      ...Object.keys(intendedErrors),
      notCompared,
    ]),
  );
  assert.deepEqual(unusedRules(), []);
});
