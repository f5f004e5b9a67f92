import assert from "node:assert/strict";
import { test } from "node:test";

import { serveApi } from "../../../test/support/docker-api.ts";
import { assertDescribed } from "../../../test/support/swagger.ts";

const prune = (filters: unknown): string =>
  `/build/prune?filters=${encodeURIComponent(JSON.stringify(filters))}`;

test("a prune of the build cache finds nothing, because nothing is built", async (t) => {
  const api = await serveApi(t, () => {});
  for (const path of [
    "/build/prune",
    "/build/prune?all=1&keep-storage=10&reserved-space=0",
    prune({ until: ["24h"], label: ["a=b", "c"], type: ["regular"] }),
    prune({ "unused-for": ["2024-01-01T00:00:00Z"] }),
    "/v1.47/build/prune?max-used-space=plenty",
  ]) {
    const response = await api.call("POST", path);
    assert.equal(response.status, 200, `${path}: ${response.text}`);
    assert.deepEqual(response.json(), { CachesDeleted: null, SpaceReclaimed: 0 });
    assertDescribed("post", "/build/prune", 200, response.json());
  }
});

test("a prune of the build cache tells mistakes as dockerd does", async (t) => {
  const api = await serveApi(t, () => {});
  const refusals: readonly (readonly [path: string, message: string])[] = [
    [
      "/build/prune?max-used-space=plenty",
      'max-used-space is in bytes and expects an integer, got plenty: strconv.Atoi: parsing "plenty": invalid syntax',
    ],
    ["/build/prune?filters=notjson", "invalid filter"],
    [prune({ mutable: ["1"] }), "failed to prune build cache: invalid filter 'mutable'"],
    [prune({ until: ["1h", "2h"] }), "failed to prune build cache: filters expect only one value"],
    [prune({ id: ["a", "b"] }), "failed to prune build cache: filters expect only one value"],
    [
      prune({ until: ["1h"], "unused-for": ["1h"] }),
      'failed to prune build cache: conflicting filters: "until" and "unused-for"',
    ],
    [
      prune({ until: ["soon"] }),
      "failed to prune build cache: \"until\" filter expects a duration (e.g., '24h') or a timestamp: " +
        'failed to parse value as time or duration: "soon"',
    ],
  ];
  for (const [path, message] of refusals) {
    const response = await api.call("POST", path);
    assert.deepEqual([response.status, response.json()], [400, { message }], path);
  }
});
