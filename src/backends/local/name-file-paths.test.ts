import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";

import { ContainerRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import { nameFilePaths } from "./name-file-paths.ts";

test("name files are the container's own, those of its network's owner, or files mounted over them", () => {
  const none = () => undefined;
  const own = create(ContainerRecordSchema, {
    id: "me",
    mounts: [{ type: "bind", source: "/my/hosts", destination: "/etc/hosts" }],
  });
  assert.deepEqual(nameFilePaths(own, "/state", none), {
    hostnamePath: "/state/containers/me/files/hostname",
    hostsPath: "/my/hosts",
    resolvConfPath: "/state/containers/me/files/resolv.conf",
  });
  const shared = create(ContainerRecordSchema, {
    id: "me",
    hostConfig: { networkMode: "container:other" },
  });
  const other = create(ContainerRecordSchema, {
    id: "other",
    hostConfig: { networkMode: "container:first" },
  });
  const hostsOf = (containerOf: (id: string) => typeof other | undefined) =>
    nameFilePaths(shared, "/state", containerOf).hostsPath;
  assert.equal(hostsOf(none), "/state/containers/other/files/hosts");
  assert.equal(
    hostsOf((id) => (id === "other" ? other : undefined)),
    "/state/containers/first/files/hosts",
  );
});
