import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";

import { ContainerStatus } from "../../gen/sockerless/backend/v1/container_pb.ts";
import { ContainerRecordSchema, NetworkRecordSchema, Phase } from "../../gen/sockerless/state/v1/state_pb.ts";
import type { Driver } from "../driver/driver.ts";
import type { State } from "../state/state.ts";
import { releaseSteps, removeIdleBridges } from "./leave-machine.ts";

const ofBuild = { labels: { "sockerless.build": "container" } };
const containers = [
  { id: "ended", config: ofBuild, state: { status: ContainerStatus.EXITED } },
  { id: "runs", config: ofBuild, state: { status: ContainerStatus.RUNNING } },
  {
    id: "starts",
    config: ofBuild,
    state: { status: ContainerStatus.EXITED },
    phase: Phase.STARTING,
    endpoints: { joined: {} },
  },
  { id: "user's", state: { status: ContainerStatus.EXITED }, endpoints: { idle: {} } },
] satisfies MessageInitShape<typeof ContainerRecordSchema>[];
const networks = ["joined", "idle"].map((name) => ({ network: { id: name, name, driver: "bridge" } }));
const state = {
  containers: new Map(containers.map((each) => [each.id, create(ContainerRecordSchema, each)])),
  networks: new Map(networks.map((each) => [each.network.id, create(NetworkRecordSchema, each)])),
} as unknown as State;

describe("a backend that ends in good order", () => {
  it("releases the steps that have ended, and none whose start the next one takes up", async () => {
    const released: string[] = [];
    const release = async (id: string) => void released.push(id);
    await releaseSteps(state, { workloads: { release } } as unknown as Driver);
    assert.deepEqual(released, ["ended"]);
  });

  it("leaves the bridge of a container that starts", async () => {
    const removed: (string | undefined)[] = [];
    const remove = async (record: { network?: { name: string } }) => void removed.push(record.network?.name);
    await removeIdleBridges(state, { networks: { remove } } as unknown as Driver);
    assert.deepEqual(removed, ["idle"]);
  });
});
