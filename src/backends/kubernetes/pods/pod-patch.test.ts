import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { mergePatch } from "./pod-patch.ts";

const pod = {
  metadata: { name: "pod" },
  spec: {
    nodeSelector: { pool: "docker" },
    containers: [
      { name: "main", image: "web", env: [{ name: "A", value: "1" }] },
      { name: "beside", image: "proxy" },
    ],
    tolerations: [{ key: "one" }],
  },
};

function patched(spec: object) {
  return mergePatch(pod, { spec }).spec as unknown as Record<string, unknown>;
}

describe("a patch of a pod", () => {
  it("merges objects, and takes away what is null", () => {
    assert.deepEqual(patched({ nodeSelector: { zone: "a" } })["nodeSelector"], { pool: "docker", zone: "a" });
    assert.deepEqual(patched({ nodeSelector: { pool: null } })["nodeSelector"], {});
    assert.deepEqual(patched({ nodeSelector: { $patch: "replace", zone: "a" } })["nodeSelector"], {
      zone: "a",
    });
  });

  it("merges lists by the key of their items, in the order that they have", () => {
    const main = { name: "main", env: [{ name: "B", value: "2" }] };
    assert.deepEqual(patched({ containers: [main, { name: "third" }] })["containers"], [
      {
        name: "main",
        image: "web",
        env: [
          { name: "A", value: "1" },
          { name: "B", value: "2" },
        ],
      },
      { name: "beside", image: "proxy" },
      { name: "third" },
    ]);
  });

  it("deletes and replaces where it says so", () => {
    assert.deepEqual(
      (patched({ containers: [{ name: "beside", $patch: "delete" }] })["containers"] as object[]).length,
      1,
    );
    assert.deepEqual(patched({ containers: [{ $patch: "replace" }, { name: "only" }] })["containers"], [
      { name: "only" },
    ]);
  });

  it("replaces other lists, and leaves the pod that it was given", () => {
    assert.deepEqual(patched({ tolerations: [{ key: "two" }] })["tolerations"], [{ key: "two" }]);
    assert.deepEqual(pod.spec.tolerations, [{ key: "one" }]);
  });
});
