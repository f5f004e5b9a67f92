import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { NetworkingConfigSchema } from "../../../../gen/sockerless/backend/v1/config_pb.ts";
import { ContainerRecordSchema } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { State } from "../../../state/state.ts";
import { isWithoutNetwork } from "../../../model/endpoints.ts";
import { networkPlanOf, validateNetworking } from "./endpoints.ts";

describe("endpoint settings", () => {
  it("have no more driver options than 64, of 16,384 characters together", () => {
    const refuse = (driverOpts: Record<string, string>) => () =>
      validateNetworking(create(NetworkingConfigSchema, { endpoints: { net: { driverOpts } } }));
    refuse({ "com.docker.network.endpoint.ifname": "eth9" })();
    const many = Object.fromEntries(Array.from({ length: 65 }, (_, n) => [`o${n}`, "1"]));
    for (const options of [many, { long: "x".repeat(16_384) }]) {
      assert.throws(refuse(options), /too many driver options: at most 64, of 16384 characters together/);
    }
  });
});

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
