import assert from "node:assert/strict";
import { it } from "node:test";

import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";

import { ListImagesRequestSchema } from "../../gen/sockerless/backend/v1/image_pb.ts";
import { ImageRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import { parseImageConfig } from "./image-config.ts";
import { listImages } from "./image-list.ts";

it("a list of images parses none of their names, of which there may be hundreds of thousands", async (context) => {
  const digests = [`docker.io/library/app@sha256:${"0".repeat(64)}`];
  const record = create(ImageRecordSchema, {
    names: ["docker.io/library/app:1", "example.com/app:2"],
    digests,
  });
  const config = parseImageConfig(Buffer.from('{"rootfs":{"type":"layers"}}'));
  const image = { record, config, containers: 0, parentId: "", isParent: false };
  const found = {
    nowMs: 0,
    signal: new AbortController().signal,
    find: () => assert.fail("no image is looked up"),
    stacksOf: () => [],
  };
  const parsed = context.mock.method(RegExp.prototype, "exec");
  const listed = async (reference: readonly string[]) => {
    const filters = reference.length === 0 ? {} : { reference: { values: [...reference] } };
    const [summary] = await listImages([image], create(ListImagesRequestSchema, { filters }), found);
    return [summary?.repoTags, summary?.repoDigests];
  };
  const all = await listed([]);
  const calls = parsed.mock.callCount();
  const named = await listed(["app"]);
  const digest = `app@sha256:${"0".repeat(64)}`;
  assert.deepEqual(all, [["app:1", "example.com/app:2"], [digest]]);
  assert.deepEqual(named, [["app:1"], [digest]]);
  assert.equal(calls, 0);
});

it("other calls have turns between the images of a list with many names", async () => {
  const names = Array.from({ length: 1_000 }, (_, index) => `docker.io/library/app:${index}`);
  const record = create(ImageRecordSchema, { names });
  const config = parseImageConfig(Buffer.from('{"rootfs":{"type":"layers"}}'));
  const image = { record, config, containers: 0, parentId: "", isParent: false };
  const context = {
    nowMs: 0,
    signal: new AbortController().signal,
    find: () => assert.fail("no image is looked up"),
    stacksOf: () => [],
  };
  let turns = 0;
  const count = (): void => {
    turns += 1;
    counting = setImmediate(count);
  };
  let counting = setImmediate(count);
  const listed = await listImages(Array(16).fill(image), create(ListImagesRequestSchema), context);
  clearImmediate(counting);
  assert.equal(listed.length, 16);
  assert.ok(turns >= 6, `${turns} turns`);
});

it("a list reads the time of each image once to sort them", async () => {
  const record = create(ImageRecordSchema, {});
  let reads = 0;
  const images = Array.from({ length: 512 }, (_, index) => {
    const parsed = parseImageConfig(Buffer.from('{"rootfs":{"type":"layers"}}'));
    const config = {
      ...parsed,
      get created() {
        reads += 1;
        return timestampFromMs(((index * 7) % 512) * 1_000);
      },
    };
    return { record, config, containers: 0, parentId: "", isParent: false };
  });
  const context = {
    nowMs: 0,
    signal: new AbortController().signal,
    find: () => assert.fail("no image is looked up"),
    stacksOf: () => [],
  };
  const listed = await listImages(images, create(ListImagesRequestSchema, { all: true }), context);
  const times = listed.map(({ created }) => Number(created?.seconds));
  assert.deepEqual(
    times,
    times.toSorted((a, b) => b - a),
  );
  assert.ok(reads <= 4 * images.length, `${reads} reads`); // The answer has it too.
});
