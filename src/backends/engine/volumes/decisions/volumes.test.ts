import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { VolumeRecordSchema } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { VolumeRules } from "../../../driver/volumes.ts";
import { driverOf, isKeptHere } from "./volumes.ts";

const rules: VolumeRules = {
  drivers: [
    { name: "first", sharing: "shared", content: "here-without-options" },
    { name: "second", sharing: "exclusive", content: "here" },
  ],
  elsewhere: { third: "it is not of this place: use second" },
  usedBy: "any",
  forceOnUsed: "refuse",
};

describe("the driver of a volume", () => {
  it("is the backend's first unless another is named", () => {
    for (const [asked, driver] of [
      ["", "first"],
      ["local", "first"],
      ["second", "second"],
    ] as const) {
      assert.equal(driverOf(rules, "v", asked), driver);
    }
  });

  it("that is not there is refused with those that are, or the reason", () => {
    for (const [asked, reason] of [
      ["nfs", "the volume drivers here are first, second"],
      ["third", "it is not of this place: use second"],
      ["constructor", "the volume drivers here are first, second"],
    ] as const) {
      assert.throws(() => driverOf(rules, "v", asked), {
        kind: "not-found",
        message: `create v: error looking up volume plugin ${asked}: plugin "${asked}" not found: ${reason}`,
      });
    }
  });

  it("says whether what is in its volumes is kept here", () => {
    const isKept = (driver: string, options: Record<string, string>): boolean =>
      isKeptHere(rules, create(VolumeRecordSchema, { driver, options }));
    assert.deepEqual(
      [
        isKept("first", {}),
        isKept("first", { type: "nfs" }),
        isKept("second", { size: "1G" }),
        isKept("gone", {}),
      ],
      [true, false, true, false],
    );
  });
});
