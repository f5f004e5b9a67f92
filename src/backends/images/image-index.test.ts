import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";

import { ImageRecordSchema, type ImageRecord } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { Change, State } from "../state/state.ts";
import { ImageIndex } from "./image-index.ts";
import { imagesToSave } from "./image-save.ts";
import { parseNamed } from "./reference.ts";

const name = "docker.io/library/app:latest";

function recordOf(id: string, parts: MessageInitShape<typeof ImageRecordSchema>): ImageRecord {
  return create(ImageRecordSchema, { ...parts, id });
}

describe("a change of images that is refused", () => {
  it("leaves names with the images that have them, without a look at others", async (context) => {
    const holder = recordOf("sha256:1", { names: [name] });
    const other = recordOf("sha256:2", {});
    const images = new Map([holder, other].map((record) => [record.id, record]));
    const index = new ImageIndex({
      images,
      commit: (describeChange: (change: Change) => void) => {
        describeChange({ images: { put() {}, delete() {} } } as unknown as Change);
        return Promise.reject(new Error("the disk is full"));
      },
    } as unknown as State);
    const looks = context.mock.method(images, "values");
    const unused = "docker.io/library/app:unused";
    const moved = index.withNames(other, [name, unused], []);
    assert.equal(moved.length, 2);
    await assert.rejects(index.commit({ put: moved }), /the disk is full/);
    assert.equal(index.named(parseNamed(name)), holder);
    assert.equal(index.named(parseNamed(unused)), undefined);
    assert.equal(looks.mock.callCount(), 0);
  });

  it("for want of room leaves a name to its holder until another change of the same turn moves it", async () => {
    const images = new Map([["sha256:1", recordOf("sha256:1", { names: [name] })]]);
    let refusals = 1;
    const index = new ImageIndex({
      images,
      commit: async (describeChange: (change: Change) => void) => {
        const isRefused = refusals-- > 0;
        const put = (record: ImageRecord) => isRefused || images.set(record.id, record);
        describeChange({ images: { put } } as unknown as Change);
        if (isRefused) {
          throw new Error("the images may hold 64 MiB");
        }
      },
    } as unknown as State);
    const named = (id: string) => index.commit({ put: index.withNames(recordOf(id, {}), [name], []) });
    const [first, second] = [named("sha256:2"), named("sha256:3")];
    await assert.rejects(first, /may hold 64 MiB/);
    await second;
    assert.equal(index.named(parseNamed(name))?.id, "sha256:3");
    assert.deepEqual(
      [...images.values()].map(({ id, names }) => [id, names]),
      [
        ["sha256:1", []],
        ["sha256:3", [name]],
      ],
    );
  });
});

describe("images to save", () => {
  it("are looked up once for each name, however often they are asked for", () => {
    const names = Array.from({ length: 1_024 }, (_, n) => `docker.io/library/app:${n}`);
    const record = recordOf("sha256:1", { names });
    const index = new ImageIndex({ images: new Map([[record.id, record]]) } as unknown as State);
    let finds = 0;
    const find = (reference: string): ImageRecord => {
      finds += 1;
      return index.find(reference);
    };
    const [image, ...others] = imagesToSave(index, Array<string>(20).fill("app"), find);
    assert.deepEqual([image?.names.length, others.length, finds], [1_024, 0, 1_024]);
  });
});

describe("tags of repositories", () => {
  const records = Array.from({ length: 9 }, (_, image) =>
    recordOf(`sha256:${image}`, {
      names: Array.from({ length: 1_024 }, (_each, n) => `docker.io/library/many:${image}.${n}`),
    }),
  );
  const few = recordOf("sha256:a", { names: [name, "docker.io/library/app:old"] });
  const images = new Map([...records, few].map((record) => [record.id, record]));
  const index = new ImageIndex({ images } as unknown as State);
  const find = (reference: string): ImageRecord => index.find(reference);

  it("are not looked for where one is named", (context) => {
    const looks = context.mock.method(images, "values");
    assert.equal(imagesToSave(index, ["app:old"], find)[0]?.record, few);
    assert.equal(looks.mock.callCount(), 0);
  });

  it("are found in order, without those of others", () => {
    const [image, ...others] = imagesToSave(index, ["app"], find);
    assert.deepEqual([image?.names.map(({ tag }) => tag), others], [["latest", "old"], []]);
  });

  it("are refused where they are too many for one request", () => {
    assert.throws(() => imagesToSave(index, ["many"], find), /more than 8192 tags/);
    assert.equal(index.hasTags(parseNamed("many")), true);
  });
});

describe("digests of an image", () => {
  const digestsOf = (repository: string, from: number, count: number): string[] =>
    Array.from(
      { length: count },
      (_, n) => `docker.io/${repository}@sha256:${String(from + n).padStart(64, "0")}`,
    );
  const index = new ImageIndex({ images: new Map() } as unknown as State);

  it("are 1024 at most: then new ones replace those of their repository", () => {
    const digests = [...digestsOf("own/app", 0, 1_000), ...digestsOf("other/app", 0, 24)];
    const record = recordOf("sha256:1", { digests });
    const added = digestsOf("own/app", 1_000, 1);
    const [changed] = index.withNames(record, [], added);
    assert.deepEqual(changed?.digests, [...digestsOf("other/app", 0, 24), ...added]);
    assert.deepEqual(index.withNames(record, [], digestsOf("own/app", 0, 1))[0]?.digests.length, 1_024);
  });

  it("are refused where others have all of them", () => {
    const record = recordOf("sha256:1", { digests: digestsOf("own/app", 0, 1_024) });
    assert.throws(() => index.withNames(record, [], digestsOf("other/app", 0, 1)), /at most 1024 digests/);
  });
});
