/** The same calls to a real dockerd 20.10 and to sockerless: what differs is intended, and docs/differences.md says why. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { checkout, Daemon } from "../support/daemon.ts";
import { Dockerd } from "../support/dockerd.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import { calls } from "./calls.ts";
import { type Aspect, groups, isIntended, unusedRules } from "./intended.ts";
import { intendedErrors } from "./intended-errors.ts";
import { type Observation, observe } from "./observe.ts";

/** What shapes do not show: differences of values, and of calls that are not sent here. */
const notCompared = "What this test does not see";

let dockerd: Dockerd;
let daemon: Daemon;
/** What has to be ended, also where not everything could be started. */
const started: (Dockerd | Daemon)[] = [];

before(async () => {
  dockerd = await Dockerd.start();
  started.push(dockerd);
  daemon = await Daemon.start();
  started.push(daemon);
  const archive = await busyboxArchiveFile();
  for (const engine of [dockerd, daemon]) {
    await engine.ok("load", "--input", archive);
    await engine.ok("run", "-d", "--network=none", "--name=running", "busybox", "sleep", "1000000");
    await engine.docker("run", "--network=none", "--name=exited", "busybox", "sh", "-c", "echo out; exit 3");
    await engine.ok("create", "--network=none", "--name=created", "busybox", "true");
  }
});
after(async () => {
  await Promise.all(started.map((engine) => engine.stop()));
});

/** What each daemon has made last. */
let theirId = "";
let ourId = "";

for (const [index, call] of calls.entries()) {
  test(`${index} ${call.method} ${call.path} ${call.body === undefined ? "" : JSON.stringify(call.body)}`, async () => {
    const [expected, actual] = await Promise.all([
      observe(dockerd.socket, call, theirId),
      observe(daemon.socket, call, ourId),
    ]);
    theirId = expected.id ?? theirId;
    ourId = actual.id ?? ourId;
    const differences: string[] = [];
    const compare = (aspect: Aspect, ours: string, theirs: string): void => {
      if (ours !== theirs && !isIntended(call, aspect, ours, theirs)) {
        differences.push(`${aspect}: ${ours || "nothing"} instead of ${theirs || "nothing"}`);
      }
    };
    const compareLines = (aspect: Aspect, ours: readonly string[], theirs: readonly string[]): void => {
      for (const line of new Set([...ours, ...theirs])) {
        const isOurs = ours.includes(line);
        if (isOurs !== theirs.includes(line)) {
          compare(aspect, isOurs ? line : "", isOurs ? "" : line);
        }
      }
    };
    compare("error", errorOf(actual), errorOf(expected));
    // Where one of them refuses there is nothing more to compare.
    if (actual.status >= 400 === expected.status >= 400) {
      compare("contentType", actual.contentType, expected.contentType);
      compareLines("headers", actual.headers, expected.headers);
      compareLines("shape", actual.shape, expected.shape);
    }
    assert.deepEqual(differences, []);
  });
}

function errorOf({ status, message }: Observation): string {
  return `${status} ${message}`.trim();
}

test("each intended difference has its paragraph, and each rule a difference", async () => {
  const document = await readFile(join(checkout, "docs/differences.md"), "utf8");
  const headings = [...document.matchAll(/^## (.*)$/gm)].map(([, heading]) => heading);
  assert.deepEqual(
    new Set(headings),
    new Set([...Object.keys(groups), ...Object.keys(intendedErrors), notCompared]),
  );
  assert.deepEqual(unusedRules(), []);
});
