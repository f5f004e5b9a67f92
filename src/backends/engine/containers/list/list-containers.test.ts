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
import { ContainerNames } from "../decisions/links/link-names.ts";
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
  const listed = listContainers(
    engine,
    create(ListContainersRequestSchema, { all: true, filters }),
    new ContainerNames(state),
  );
  assert.deepEqual(
    listed.map(({ imageId }) => imageId),
    [belowOther, below],
  );
  assert.equal(reads.mock.callCount(), 0);
});

test("names by links are found in one pass, whatever number of links there is", async (context) => {
  const store = await openImageStore(context);
  const targets = Array.from({ length: 20 }, (_, n) => sha256Of(`target ${n}`).slice(-64));
  await store.state.commit(({ containers }) => {
    const parts = { config: create(ContainerConfigSchema), state: create(ContainerStateSchema) };
    for (const [n, id] of targets.entries()) {
      containers.put(create(ContainerRecordSchema, { ...parts, id, name: `target${n}` }));
    }
    for (let n = 0; n < 30; n++) {
      const links = targets.map((containerId, at) => ({ containerId, alias: `alias${at}` }));
      const id = sha256Of(`parent ${n}`).slice(-64);
      containers.put(create(ContainerRecordSchema, { ...parts, id, name: `parent${n}`, links }));
    }
  });
  const { state, images } = store;
  const passes = context.mock.method(state.containers, "values");
  const searches = context.mock.method(state.containers, "linkedTo");
  const names = new ContainerNames(state);
  const engine = { state, images: images.containers } as unknown as EngineContext;
  const filters = { name: { values: ["/parent17/alias9"] } };
  const [found, ...others] = listContainers(
    engine,
    create(ListContainersRequestSchema, { all: true, filters }),
    names,
  );
  assert.deepEqual([found?.name, others], ["target9", []]);
  assert.ok(found !== undefined && names.of(found).length === 31);
  assert.deepEqual([passes.mock.callCount(), searches.mock.callCount()], [2, 0]);
});

test("a listing ends at a container by its full ID or name", async (context) => {
  const { state, images } = await openImageStore(context);
  const ids = ["a", "b", "c"].map((digit) => digit.repeat(64));
  await state.commit(({ containers }) => {
    const parts = { config: create(ContainerConfigSchema), state: create(ContainerStateSchema) };
    for (const [at, id] of ids.entries()) {
      containers.put(create(ContainerRecordSchema, { ...parts, id, name: `made${at}` }));
    }
  });
  const engine = { state, images: images.containers } as unknown as EngineContext;
  const since = (...values: string[]): string[] => {
    const request = create(ListContainersRequestSchema, { all: true, filters: { since: { values } } });
    return listContainers(engine, request, new ContainerNames(state)).map(({ name }) => name);
  };
  assert.deepEqual(since("made0"), ["made2", "made1"]);
  assert.deepEqual(since("made0", "b".repeat(64)), ["made2"]);
  assert.throws(() => since("made2", "bbbb"), { kind: "not-found", message: "No such container: bbbb" });
});
