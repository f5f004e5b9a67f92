import assert from "node:assert/strict";
import { buffer } from "node:stream/consumers";
import { describe, it } from "node:test";

import { pack as packTar } from "tar-stream";

import { streamOf } from "../../../test/support/image-store.ts";
import { tarOf } from "../../../test/support/tar.ts";
import { headersOf, LayerHeaders } from "./layer-headers.ts";

describe("the headers of layers", () => {
  const namesOf = async (headers: LayerHeaders, digest: string, tar: Buffer, opened: string[]) => {
    const names: string[] = [];
    const open = () => {
      opened.push(digest);
      return streamOf(tar);
    };
    for await (const { name } of headers.of(digest, open)) {
      names.push(name);
    }
    return names;
  };

  it("have nothing that is not used, and those with long names count as several", async () => {
    const pack = packTar();
    pack.entry(
      { name: "a", pax: { mtime: "7.5", "SCHILY.xattr.user.x": "x".repeat(60_000), comment: "y" } },
      "",
    );
    pack.entry({ name: "b".repeat(3_000) }, "");
    pack.finalize();
    const tar = await buffer(pack);
    const headers = new LayerHeaders(12);
    const opened: string[] = [];
    const [first] = await Array.fromAsync(headersOf({ open: () => streamOf(tar) }));
    assert.deepEqual(first?.pax, { mtime: "7.5" });
    for (const length of [1, 2]) {
      await namesOf(headers, "long", tar, opened);
      assert.equal(opened.length, length, "12 and one are too many to be kept");
    }
  });

  it("are read once, and again once others have taken their room", async () => {
    const headers = new LayerHeaders(3);
    const opened: string[] = [];
    const one = await tarOf([{ name: "a", content: "x".repeat(1000) }, { name: "b" }]);
    const other = await tarOf([{ name: "c" }]);
    const large = await tarOf(["d", "e", "f", "g"].map((name) => ({ name })));
    for (let times = 0; times < 2; times++) {
      assert.deepEqual(await namesOf(headers, "one", one, opened), ["a", "b"]);
      assert.deepEqual(await namesOf(headers, "other", other, opened), ["c"]);
    }
    assert.deepEqual(opened, ["one", "other"]);
    assert.deepEqual(await namesOf(headers, "large", large, opened), ["d", "e", "f", "g"]);
    await namesOf(headers, "one", one, opened);
    assert.deepEqual(opened, ["one", "other", "large"], "what is too large takes no room");
    await namesOf(headers, "another", one, opened);
    await namesOf(headers, "one", one, opened);
    await namesOf(headers, "other", other, opened);
    assert.deepEqual(opened.slice(3), ["another", "one", "other"]);
  });

  it("of layers that are read at a time are held as few as are kept", async () => {
    const headers = new LayerHeaders(3);
    const opened: string[] = [];
    const [one, other] = await Promise.all(
      ["ab", "cd"].map((names) => tarOf([...names].map((name) => ({ name })))),
    );
    assert.ok(one !== undefined && other !== undefined);
    const reading = headers.of("one", () => streamOf(one));
    await reading.next();
    await reading.next();
    for (let times = 0; times < 2; times++) {
      await namesOf(headers, "other", other, opened);
    }
    assert.deepEqual(opened, ["other", "other"], "there is no room beside the first");
    await reading.return(undefined);
    for (let times = 0; times < 2; times++) {
      await namesOf(headers, "other", other, opened);
    }
    assert.deepEqual(opened, ["other", "other", "other"]);
    const pax = { mtime: "7".repeat(900) };
    const long = await tarOf([{ name: "e", pax }]);
    for (let times = 0; times < 2; times++) {
      await namesOf(headers, "long", long, opened);
    }
    assert.deepEqual(opened.slice(3), ["long", "long"], "records take room");
  });

  it("of a layer that was not read to its end are not kept", async () => {
    const headers = new LayerHeaders();
    const tar = await tarOf([{ name: "a" }, { name: "b" }]);
    for await (const { name } of headers.of("one", () => streamOf(tar))) {
      assert.equal(name, "a");
      break;
    }
    assert.deepEqual(await namesOf(headers, "one", tar, []), ["a", "b"]);
  });
});
