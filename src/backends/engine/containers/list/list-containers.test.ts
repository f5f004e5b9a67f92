import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";

import { openImageStore } from "../../../../../test/support/image-store.ts";
import { ContainerConfigSchema } from "../../../../gen/sockerless/backend/v1/config_pb.ts";
import {
  ContainerStateSchema,
  ListContainersRequestSchema,
} from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import { ContainerRecordSchema, ImageRecordSchema } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import { sha256Of } from "../../../images/digest.ts";
import type { EngineContext } from "../../context.ts";
import { listContainers } from "./list-containers.ts";

test("containers of many ancestors are found without a look at all images for each", async (context) => {
  const store = await openImageStore(context);
  const names = Array.from({ length: 1_000 }, (_, n) => `docker.io/library/app:${n}`);
  const named = sha256Of("named");
  const below = sha256Of("below the named one");
  const other = sha256Of("other");
  const belowOther = sha256Of("below the other one");
  const third = sha256Of("third");
  const parents: readonly (readonly [string, string])[] = [
    [named, ""],
    [below, named],
    [other, ""],
    ...Array.from({ length: 100 }, (_, n) => [sha256Of(`${n}`), other] as const),
    [belowOther, sha256Of("7")],
    [third, ""],
  ];
  await store.state.commit(({ containers, images }) => {
    for (const [id, parentId] of parents) {
      images.put(create(ImageRecordSchema, { id, parentId, names: id === named ? names : [] }));
    }
    for (const [n, imageId] of [below, belowOther, third].entries()) {
      const parts = { config: create(ContainerConfigSchema), state: create(ContainerStateSchema) };
      containers.put(create(ContainerRecordSchema, { ...parts, id: `${n}`.repeat(64), imageId }));
    }
  });
  const { state, images } = await store.reopen();
  const reads = context.mock.method(state.images, "values");
  const starts = Array.from({ length: 30 }, (_, n) => other.slice(0, 20 + n));
  const filters = { ancestor: { values: [...names, ...starts] } };
  const engine = { state, images: images.containers } as unknown as EngineContext;
  const listed = listContainers(engine, create(ListContainersRequestSchema, { all: true, filters }));
  assert.deepEqual(
    listed.map(({ imageId }) => imageId),
    [belowOther, below],
  );
  assert.equal(reads.mock.callCount(), 0);
});
