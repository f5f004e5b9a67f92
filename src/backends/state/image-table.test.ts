import assert from "node:assert/strict";
import { it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { ImageRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import { ImageTable } from "./image-table.ts";

it("images are found by the start of their IDs, two at most, as they come and go", () => {
  const table = new ImageTable();
  const change = table.changeInto({ operations: [], undo: [], grows: new Set(), overfills: new Set() });
  const found = (start: string) => table.startingWith(start).map(({ id }) => id);
  assert.deepEqual(found(""), []);
  for (const id of ["c", "ab", "b", "aa", "ac"]) {
    change.put(create(ImageRecordSchema, { id }));
  }
  assert.deepEqual(["", "a", "ab", "b", "bb", "d"].map(found), [
    ["aa", "ab"],
    ["aa", "ab"],
    ["ab"],
    ["b"],
    [],
    [],
  ]);
  change.delete("aa");
  change.delete("ab");
  change.put(create(ImageRecordSchema, { id: "d" }));
  assert.deepEqual(["a", "d"].map(found), [["ac"], ["d"]]);
});

it("blobs are referenced while an image has them, as configuration, manifest or layer", () => {
  const table = new ImageTable();
  const change = table.changeInto({ operations: [], undo: [], grows: new Set(), overfills: new Set() });
  const referenced = () => ["", "a", "b", "m", "n", "l", "k"].filter((digest) => table.isReferenced(digest));
  change.put(create(ImageRecordSchema, { id: "a", manifestDigest: "m", layerDigests: ["l", "k"] }));
  change.put(create(ImageRecordSchema, { id: "b", layerDigests: ["l"] }));
  assert.deepEqual(referenced(), ["a", "b", "m", "l", "k"]);
  assert.deepEqual(
    table.referringTo("l").map(({ id }) => id),
    ["a", "b"],
  );
  change.put(create(ImageRecordSchema, { id: "a", manifestDigest: "n", layerDigests: ["l"] }));
  assert.deepEqual(referenced(), ["a", "b", "n", "l"]);
  change.delete("a");
  assert.deepEqual(referenced(), ["b", "l"]);
  change.delete("b");
  assert.deepEqual(referenced(), []);
});
