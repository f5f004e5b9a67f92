import assert from "node:assert/strict";
import { test } from "node:test";

import { volumeOfShare } from "./metadata.ts";

test("a share whose details somebody has changed is a volume all the same, without them", () => {
  const moments = [
    [1.5, 0],
    [1, 4e9],
    [1, 2, 100],
    [1, -1],
  ];
  const details = moments.map((created) => JSON.stringify({ created, labels: { a: "b" }, options: {} }));
  for (const text of [...details, "no JSON"]) {
    const volume = volumeOfShare(
      { account: "a", share: "s" },
      { sockerless_volume: "v", sockerless_details: Buffer.from(text).toString("base64url") },
    );
    assert.equal(volume?.name, "v");
    assert.equal(volume?.created?.seconds, 0n);
    assert.deepEqual(volume?.labels, {});
  }
});
