/** The same calls to a real dockerd 20.10 and to sockerless: what differs is intended, and docs/differences.md says why. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { checkout, Daemon } from "../support/daemon.ts";
import { Dockerd } from "../support/dockerd.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import { calls } from "./calls.ts";
import { observe } from "./observe.ts";
import { type Aspect, groups, isIntended } from "./intended.ts";

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

for (const [index, call] of calls.entries()) {
  test(`${index} ${call.method} ${call.path} ${call.body === undefined ? "" : JSON.stringify(call.body)}`, async () => {
    const [expected, actual] = await Promise.all([
      observe(dockerd.socket, call),
      observe(daemon.socket, call),
    ]);
    const differences: string[] = [];
    const compare = (aspect: Aspect, ours: string, theirs: string): void => {
      if (ours !== theirs && !isIntended(call, aspect, ours, theirs)) {
        differences.push(`${aspect}: ${ours || "nothing"} instead of ${theirs || "nothing"}`);
      }
    };
    compare("status", String(actual.status), String(expected.status));
    const compareLines = (aspect: Aspect, ours: readonly string[], theirs: readonly string[]): void => {
      for (const line of new Set([...ours, ...theirs])) {
        const isOurs = ours.includes(line);
        if (isOurs !== theirs.includes(line)) {
          compare(aspect, isOurs ? line : "", isOurs ? "" : line);
        }
      }
    };
    compare("contentType", actual.contentType, expected.contentType);
    if (actual.status === expected.status) {
      compareLines("headers", actual.headers, expected.headers);
      compare("message", actual.message, expected.message);
      compareLines("shape", actual.shape, expected.shape);
    }
    assert.deepEqual(differences, []);
  });
}

test("each intended difference has its paragraph", async () => {
  const document = await readFile(join(checkout, "docs/differences.md"), "utf8");
  const headings = [...document.matchAll(/^## (.*)$/gm)].map(([, heading]) => heading);
  assert.deepEqual(new Set(headings), new Set(Object.keys(groups)));
});
