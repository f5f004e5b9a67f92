import assert from "node:assert/strict";
import { test } from "node:test";

import type { ResolvedMount } from "../../driver/workload-spec.ts";
import { mountOf, parseMountInfo, rootPropagation } from "./propagation.ts";

const mountInfo = [
  "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw",
  "30 22 0:5 / /srv rw shared:7 - tmpfs tmpfs rw",
  "31 30 0:6 / /srv/deep\\040er rw master:7 - tmpfs tmpfs rw",
  "32 22 0:7 / /covered rw shared:9 - tmpfs tmpfs rw",
  "33 32 0:8 / /covered rw - tmpfs tmpfs rw",
].join("\n");
const lookUp = (path: string) => mountOf(path, parseMountInfo(mountInfo));
const mount = (propagation: string): ResolvedMount => ({
  type: "bind",
  destination: "/x",
  readOnly: false,
  propagation,
});

test("a path lies on the nearest mount above it, the last of several", () => {
  assert.deepEqual(lookUp("/srv/a"), { mountPoint: "/srv", propagation: ["shared:7"] });
  assert.equal(lookUp("/srvother").mountPoint, "/");
  assert.deepEqual(lookUp("/srv/deep er"), { mountPoint: "/srv/deep er", propagation: ["master:7"] });
  assert.deepEqual(lookUp("/covered/x").propagation, []);
});

test("the root passes mounts on as far as one of the mounts is to", () => {
  const root = (...mounts: [string, string][]) =>
    rootPropagation(
      mounts.map(([propagation, source]) => [mount(propagation), source]),
      lookUp,
    );
  assert.equal(root(["rprivate", "/tmp"], ["", "/srv"]), undefined);
  assert.equal(root(["rslave", "/srv/deep er"]), "rslave");
  assert.equal(root(["rshared", "/srv"], ["slave", "/srv"]), "shared");
});

test("a source that passes nothing on is refused in Docker's words", () => {
  assert.throws(() => rootPropagation([[mount("rshared"), "/tmp/x"]], lookUp), {
    kind: "system",
    message: "path /tmp/x is mounted on / but it is not a shared mount",
  });
  assert.throws(() => rootPropagation([[mount("slave"), "/tmp/x"]], lookUp), {
    message: "path /tmp/x is mounted on / but it is not a shared or slave mount",
  });
  assert.throws(() => rootPropagation([[mount("shared"), "/srv/deep er"]], lookUp), /not a shared mount/);
});
