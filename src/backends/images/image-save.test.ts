import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { openImageStore, streamOf } from "../../../test/support/image-store.ts";
import { dockerArchive } from "../../../test/support/images.ts";
import { tarOf } from "../../../test/support/tar.ts";
import { ImageRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { ContentStore } from "./content-store.ts";
import { sha256Of } from "./digest.ts";
import { HeldDocuments } from "./held-documents.ts";
import { archiveParts, keptBytes, prepareSave, type SavedImage } from "./image-save.ts";
import { parseNamed } from "./reference.ts";

const mib = 1024 ** 2;
const config = Buffer.from('{"rootfs":{"type":"layers"}}');
const digestOf = (text: string): string => sha256Of(Buffer.from(text));

/** Images of the same 125 layers, each with a name whose path and tag are as long as they may be. */
function manyImages(count: number): SavedImage[] {
  const diffIds = Array.from({ length: 125 }, (_, n) => digestOf(`layer ${n}`));
  const layerSizes = diffIds.map(() => 8n * 1024n ** 4n);
  return Array.from({ length: count }, (_, n) => ({
    record: create(ImageRecordSchema, { id: digestOf(`${n}`), diffIds, layerDigests: diffIds, layerSizes }),
    names: [parseNamed(`example.com/${"a".repeat(240)}:${`${n}`.padStart(128, "x")}`)],
  }));
}

/** A store that has everything, and counts what is looked up. */
function fullStore() {
  const looked: string[] = [];
  const store = {
    find: async (digest: string) => {
      looked.push(digest);
      return { digest, size: 1024 };
    },
    read: async () => config,
  };
  return { store: store as unknown as ContentStore, looked };
}

describe("an archive of many images", () => {
  it("has documents made in pieces, of no more bytes than are counted", async () => {
    const images = manyImages(300);
    const { store } = fullStore();
    let file = "";
    const files = new Map<string, Buffer[]>();
    for await (const part of archiveParts(store, await prepareSave(store, images))) {
      if (part.kind === "bytes") {
        assert.ok(part.bytes.length < mib, `${part.bytes.length} bytes of ${file}`);
        const header = Buffer.from(part.bytes);
        if (header.toString("latin1", 257, 262) === "ustar") {
          file = header.toString("latin1", 0, header.indexOf(0));
          files.set(file, []);
        } else {
          files.get(file)?.push(header);
        }
      }
    }
    const documents = ["index.json", "manifest.json", "repositories"].map((name) => {
      const text = Buffer.concat(files.get(name) ?? []).toString();
      return text.replace(/\0+$/, "");
    });
    const [index, manifest, repositories] = documents.map((text) => JSON.parse(text));
    assert.deepEqual(
      [index.manifests.length, manifest.length, manifest[0].Layers.length, Object.keys(repositories).length],
      [300, 300, 125, 1],
    );
    const made = documents.reduce((sum, { length }) => sum + length, 0);
    const counted = images.reduce((sum, image) => sum + keptBytes(image), 0);
    assert.ok(made > 10 * mib && made < counted, `${made} bytes are made, ${counted} are counted`);
  });

  it("has documents of no more bytes than are counted, also of names with long domains", async () => {
    const domain = `${"c".repeat(60)}.`.repeat(60);
    const names = Array.from({ length: 500 }, (_, n) => parseNamed(`${domain}com/app:${n}`));
    const images = manyImages(1).map((image) => ({ ...image, names }));
    const { store } = fullStore();
    let made = 0;
    for await (const part of archiveParts(store, await prepareSave(store, images))) {
      made += part.kind === "bytes" ? part.bytes.length : 0;
    }
    const counted = images.reduce((sum, image) => sum + keptBytes(image), 0);
    assert.ok(made > 3 * mib && made < counted, `${made} bytes are made, ${counted} are counted`);
  });

  it("has each layer looked up once", async () => {
    const { store, looked } = fullStore();
    await prepareSave(store, manyImages(3));
    assert.equal(looked.length, 125);
  });
});

describe("a save of much", () => {
  const signal = new AbortController().signal;

  it("is refused while other requests hold what they made, and makes no event", async (context) => {
    const store = await openImageStore(context);
    const tags = Array.from({ length: 200 }, (_, n) => `app:${n}`);
    const archive = streamOf(
      await dockerArchive([{ image: { layers: [await tarOf([])], config: {} }, tags }]),
    );
    await store.images.archives.load({ archive, platform: undefined, report: () => {}, signal });
    const begin = async () => {
      const save = store.images.archives.save(["app"], undefined, signal);
      await save.next();
      return save;
    };
    {
      using others = new DisposableStack();
      assert.throws(() => {
        for (;;) {
          others.use(new HeldDocuments()).take(300 * 1024);
        }
      }, /too much memory/);
      const events = store.events();
      await assert.rejects(begin(), { kind: "unavailable" });
      assert.deepEqual(store.events(), events);
    }
    await (await begin()).return(undefined);
    assert.equal(store.events().at(-1), "save");
  });
});
