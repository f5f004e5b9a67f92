import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { ContainerRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { NetworkPlan } from "../../driver/workload-spec.ts";
import { networkOfTask } from "./groups-of-task.ts";

const network: NetworkPlan = { kind: "container", containerId: "a" };
const owner = create(ContainerRecordSchema, { id: "a", name: "app" });
const networks: NetworkPlan = { kind: "networks", networks: [] };

describe("the networks of a task", () => {
  it("are the container's own, or those of the container whose network it shares", () => {
    assert.equal(networkOfTask({ network: networks }), networks);
    assert.equal(networkOfTask({ network, joined: { network: { owner, plan: networks } } }), networks);
  });
});
