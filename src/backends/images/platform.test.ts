import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { type Platform, PlatformSchema } from "../../gen/sockerless/backend/v1/config_pb.ts";
import { formatPlatform, normalizePlatform, platformDistance } from "./platform.ts";

function platform(text: string): Platform {
  const [os = "", architecture = "", variant = ""] = text.split("/");
  return create(PlatformSchema, { os, architecture, variant });
}

describe("a platform", () => {
  for (const [written, canonical] of [
    ["linux/x86_64", "linux/amd64"],
    ["Linux/AMD64/v1", "linux/amd64"],
    ["linux/aarch64", "linux/arm64"],
    ["linux/arm64/v8", "linux/arm64"],
    ["linux/arm", "linux/arm/v7"],
    ["linux/armel", "linux/arm/v6"],
    ["linux/arm/6", "linux/arm/v6"],
    ["linux/s390x", "linux/s390x"],
    ["linux/constructor", "linux/constructor"],
    ["linux/__proto__", "linux/__proto__"],
  ] as const) {
    it(`${written} is ${canonical}`, () => {
      assert.equal(formatPlatform(normalizePlatform(platform(written))), canonical);
    });
  }

  for (const [wanted, offers] of [
    ["linux/amd64", ["linux/amd64", "linux/386"]],
    ["linux/amd64/v3", ["linux/amd64/v3", "linux/amd64/v2", "linux/amd64"]],
    ["linux/arm64", ["linux/arm64/v8", "linux/arm/v7", "linux/arm/v6"]],
    ["linux/arm/v7", ["linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]],
  ] as const) {
    it(`${wanted} runs ${offers.join(", ")}, in this order of preference`, () => {
      const distances = offers.map((offer) => platformDistance(platform(wanted), platform(offer)));
      assert.deepEqual(distances, distances.toSorted());
      assert.ok(distances.every((distance) => distance !== undefined));
    });
  }

  for (const [wanted, offer] of [
    ["linux/amd64", "linux/arm64"],
    ["linux/amd64", "windows/amd64"],
    ["linux/amd64", "linux/amd64/v2"],
    ["linux/arm/v6", "linux/arm/v7"],
    ["linux/amd64", "unknown/unknown"],
  ] as const) {
    it(`${wanted} does not run ${offer}`, () => {
      assert.equal(platformDistance(platform(wanted), platform(offer)), undefined);
    });
  }
});
