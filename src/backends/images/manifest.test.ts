import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { mediaTypes, parseManifest } from "./manifest.ts";

const digest = `sha256:${"0".repeat(64)}`;
const descriptor = { digest, size: 1 };
const image = { schemaVersion: 2, config: descriptor, layers: [descriptor] };
const index = { schemaVersion: 2, manifests: [descriptor] };

function parse(document: object, claimedType = "") {
  return parseManifest(Buffer.from(JSON.stringify(document)), claimedType);
}

describe("a manifest", () => {
  it("is recognized by its type, by the server's media type, or by its members", () => {
    for (const [document, claimed, kind, mediaType] of [
      [{ ...image, mediaType: mediaTypes.dockerManifest }, "", "manifest", mediaTypes.dockerManifest],
      [image, `${mediaTypes.ociManifest}; charset=utf-8`, "manifest", mediaTypes.ociManifest],
      [image, "application/json", "manifest", mediaTypes.ociManifest],
      [{ ...index, mediaType: mediaTypes.dockerList }, "", "index", mediaTypes.dockerList],
      [index, mediaTypes.ociIndex, "index", mediaTypes.ociIndex],
      [index, "", "index", mediaTypes.ociIndex],
      [{ ...image, manifests: null }, "", "manifest", mediaTypes.ociManifest],
    ] as const) {
      const { kind: told, mediaType: type } = parse(document, claimed);
      assert.deepEqual([told, type], [kind, mediaType]);
    }
  });

  it("that can also be read as an index is refused, whatever its media type", () => {
    for (const [document, claimed] of [
      [{ ...image, ...index }, ""],
      [{ ...image, ...index }, mediaTypes.ociManifest],
      [{ ...image, ...index, mediaType: mediaTypes.ociIndex }, mediaTypes.ociIndex],
      [{ ...index, layers: [] }, mediaTypes.ociIndex],
      [{ ...image, manifests: [] }, mediaTypes.dockerManifest],
      [{ ...index, mediaType: mediaTypes.ociManifest }, ""],
      [{ ...image, mediaType: mediaTypes.ociManifest }, mediaTypes.ociIndex],
    ] as const) {
      assert.throws(() => parse(document, claimed), {
        kind: "invalid",
        message: /read as an image and as an/,
      });
    }
  });
});
