import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { ContainerRecordSchema } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { State } from "../../../state/state.ts";
import { isWithoutNetwork } from "../../../model/endpoints.ts";
import { networkPlanOf } from "./endpoints.ts";

describe("a container without a network", () => {
  const container = (networkMode: string, networkDisabled: boolean) =>
    create(ContainerRecordSchema, { hostConfig: { networkMode }, config: { networkDisabled } });

  it("has the mode none, or networks are disabled for it", () => {
    for (const record of [container("none", false), container("none", true), container("bridge", true)]) {
      assert.equal(isWithoutNetwork(record), true);
      assert.deepEqual(networkPlanOf({} as State, record), { kind: "none" });
    }
  });

  it("is none that has networks, or another's", () => {
    for (const record of [
      container("bridge", false),
      container("host", true),
      container("container:a", true),
    ]) {
      assert.equal(isWithoutNetwork(record), false);
    }
  });
});
