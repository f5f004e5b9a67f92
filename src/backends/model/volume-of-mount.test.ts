import assert from "node:assert/strict";
import { it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { ContainerRecordSchema, VolumeRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import { ContainerTable } from "../state/container-table.ts";
import type { State } from "../state/state.ts";
import { volumeOfMount } from "./volume-of-mount.ts";

it("a mount's volume is found without a look at all containers", (context) => {
  const containers = new ContainerTable();
  const config = { labels: { "sockerless.inner-socket": "root" } };
  const mounts = [
    { type: "volume", name: "anonymous" },
    { type: "volume", name: "others" },
  ];
  const user = create(ContainerRecordSchema, { id: "user", config, mounts });
  const change = containers.changeInto({ operations: [], undo: [], grows: new Set(), overfills: new Set() });
  change.put(create(ContainerRecordSchema, { id: "root" }));
  change.put(create(ContainerRecordSchema, { id: "maker", config, mounts, anonymousVolumes: ["anonymous"] }));
  change.put(user);
  const passes = context.mock.method(containers, "values");
  const names = ["anonymous", "others"];
  const volumes = new Map(names.map((name) => [name, create(VolumeRecordSchema, { name })]));
  const state = { containers, volumes } as unknown as State;
  assert.deepEqual(
    [...names, "gone"].map((name) => volumeOfMount(state, user, name)?.name),
    ["anonymous", undefined, undefined],
  );
  assert.equal(passes.mock.callCount(), 0);
});
