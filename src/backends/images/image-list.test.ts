import assert from "node:assert/strict";
import { it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { ListImagesRequestSchema } from "../../gen/sockerless/backend/v1/image_pb.ts";
import { ImageRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import { parseImageConfig } from "./image-config.ts";
import { listImages } from "./image-list.ts";

it("a list of images parses none of their names, of which there may be hundreds of thousands", (context) => {
  const digests = [`docker.io/library/app@sha256:${"0".repeat(64)}`];
  const record = create(ImageRecordSchema, {
    names: ["docker.io/library/app:1", "example.com/app:2"],
    digests,
  });
  const config = parseImageConfig(Buffer.from('{"rootfs":{"type":"layers"}}'));
  const image = { record, config, containers: 0, parentId: "", isParent: false };
  const found = { nowMs: 0, find: () => assert.fail("no image is looked up"), stacksOf: () => [] };
  const parsed = context.mock.method(RegExp.prototype, "exec");
  const listed = (reference: readonly string[]) => {
    const filters = reference.length === 0 ? {} : { reference: { values: [...reference] } };
    const [summary] = listImages([image], create(ListImagesRequestSchema, { filters }), found);
    return [summary?.repoTags, summary?.repoDigests];
  };
  const all = listed([]);
  const calls = parsed.mock.callCount();
  const named = listed(["app"]);
  const digest = `app@sha256:${"0".repeat(64)}`;
  assert.deepEqual(all, [["app:1", "example.com/app:2"], [digest]]);
  assert.deepEqual(named, [["app:1"], [digest]]);
  assert.equal(calls, 0);
});
