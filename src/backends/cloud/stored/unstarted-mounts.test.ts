import assert from "node:assert/strict";
import { it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { ContainerRecordSchema, VolumeRecordSchema } from "../../../gen/sockerless/state/v1/state_pb.ts";
import { unstartedMounts } from "./unstarted-mounts.ts";

const volumes = new Map(
  [
    { name: "shared", driverReference: "fs-1:fsap-1" },
    { name: "own", anonymous: true },
    { name: "unshared" },
  ].map((volume) => [volume.name, create(VolumeRecordSchema, volume)]),
);

it("mounts of a container that has not run show what they will, as far as it is known here", () => {
  const shown = (readonlyRootfs: boolean) => {
    const record = create(ContainerRecordSchema, {
      mounts: [
        { type: "volume", name: "shared", destination: "/shared" },
        { type: "volume", name: "own", destination: "/own" },
        { type: "volume", name: "unshared", destination: "/unshared" },
        { type: "volume", name: "removed", destination: "/removed" },
        { type: "image", name: "tools", destination: "/tools" },
        { type: "bind", destination: "/host" },
        { type: "tmpfs", destination: "/scratch" },
      ],
      hostConfig: { readonlyRootfs, tmpfs: { "/run": "" } },
    });
    return Object.fromEntries(
      unstartedMounts(record, (name) => volumes.get(name)).map(({ destination, shows }) => [
        destination,
        shows,
      ]),
    );
  };
  const common = {
    "/shared": "elsewhere",
    "/unshared": "nothing",
    "/removed": "elsewhere",
    "/tools": "elsewhere",
    "/scratch": "nothing",
    "/run": "nothing",
  };
  assert.deepEqual(shown(false), { ...common, "/own": "image" });
  assert.deepEqual(shown(true), { ...common, "/own": "nothing" });
});
