import assert from "node:assert/strict";
import { test } from "node:test";

import type { ResolvedMount } from "../../driver/workload-spec.ts";
import { parseMountInfo } from "../../../common/mount-info.ts";
import { mountLookup, rootPropagation, type SourceMount } from "./propagation.ts";

const mountInfo = [
  "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw",
  "30 22 0:5 / /srv rw shared:7 - tmpfs tmpfs rw",
  "31 30 0:6 / /srv/deep\\040er rw master:7 - tmpfs tmpfs rw",
  "32 22 0:7 / /covered rw shared:9 - tmpfs tmpfs rw",
  "33 32 0:8 / /covered rw - tmpfs tmpfs rw",
].join("\n");
const lookUp = mountLookup(parseMountInfo(mountInfo));
const mount = (propagation: string): ResolvedMount => ({
  type: "bind",
  destination: "/x",
  readOnly: false,
  propagation,
});

test("a path lies on the nearest mount above it, the last of several", () => {
  assert.deepEqual(lookUp("/srv/a"), { device: "0:5", mountPoint: "/srv", propagation: ["shared:7"] });
  assert.equal(lookUp("/srvother").mountPoint, "/");
  assert.deepEqual(lookUp("/srv/deep er"), {
    device: "0:6",
    mountPoint: "/srv/deep er",
    propagation: ["master:7"],
  });
  assert.deepEqual(lookUp("/covered/x").propagation, []);
});

test("every path's mount is the one that a comparison with all finds", () => {
  const names = ["a", "a-b", "a.b", "a b", "ab", "b"];
  const all = names.flatMap((x) => names.flatMap((y) => [`/${x}`, `/${x}/${y}`, `/${x}/${y}/${x}`]));
  for (let share = 2; share < 7; share++) {
    const points = all.filter((_, index) => index % share === 0);
    const mounts = points.map((mountPoint, index) => ({ mountPoint, propagation: [`shared:${index}`] }));
    const find = mountLookup(mounts);
    for (const path of ["/", ...all, ...all.map((each) => `${each}//x/`)]) {
      assert.deepEqual(find(path), comparedWithAll(path, mounts), path);
    }
  }
});

function comparedWithAll(path: string, mounts: readonly SourceMount[]): SourceMount {
  let found: SourceMount = { mountPoint: "/", propagation: [] };
  for (const mount of mounts) {
    const contains = mount.mountPoint === path || path.startsWith(`${mount.mountPoint}/`);
    if (contains && mount.mountPoint.length >= found.mountPoint.length) {
      found = mount;
    }
  }
  return found;
}

for (const [what, mountPointOf] of [
  ["flat", (index: number) => `/srv/volumes/${index}/_data`],
  ["nested", (index: number) => `/srv${"/a".repeat(index % 2000)}`],
] as const) {
  test(`thousands of paths are found on thousands of ${what} mounts in one turn`, () => {
    const mounts = Array.from({ length: what === "flat" ? 50_000 : 4096 }, (_, index) => ({
      mountPoint: mountPointOf(index),
      propagation: ["shared:1"],
    }));
    const before = performance.now();
    const find = mountLookup(mounts);
    for (let index = 0; index < 4096; index++) {
      const { mountPoint } = find(`${mountPointOf(index)}/${index}`);
      assert.ok(mountPoint === mountPointOf(index));
    }
    assert.ok(performance.now() - before < 2500, `${performance.now() - before} ms`);
  });
}

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
