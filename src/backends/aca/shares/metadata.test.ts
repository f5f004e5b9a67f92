import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";

import { VolumeRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { capturedLogger } from "../../cloud/testing/captured-logger.ts";
import { shareMetadata, volumeOfShare } from "./metadata.ts";
import { shareName } from "./names.ts";

const instance = "sockerless/1";
const volume = create(VolumeRecordSchema, { name: "v", created: { seconds: 7n, nanos: 8 } });
const metadata = shareMetadata(volume, instance, capturedLogger().logger);
const share = shareName(volume, instance);

test("a share is a volume by its name and metadata together: a copy of either is none", () => {
  assert.equal(volumeOfShare({ account: "a", share }, metadata)?.created?.nanos, 8);
  const others = [
    [`${share}-copy`, metadata],
    [share, { ...metadata, sockerless_volume: "w" }],
    [share, { ...metadata, sockerless_instance: "sockerless/2" }],
  ] as const;
  for (const [name, theirs] of others) {
    assert.equal(volumeOfShare({ account: "a", share: name }, theirs), undefined);
  }
});

test("a share whose details somebody has changed is no volume", () => {
  const moments = [
    [1.5, 0],
    [1, 4e9],
    [1, 2, 100],
    [1, -1],
  ];
  const details = moments.map((created) => JSON.stringify({ created, labels: { a: "b" }, options: {} }));
  for (const text of [...details, "no JSON"]) {
    const changed = { ...metadata, sockerless_details: Buffer.from(text).toString("base64url") };
    assert.equal(volumeOfShare({ account: "a", share }, changed), undefined);
  }
});
