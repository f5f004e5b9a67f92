import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";

import type { HostConfigSchema } from "../../gen/sockerless/backend/v1/config_pb.ts";
import { ContainerRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import { maskedPaths, readonlyPaths } from "../common/default-paths.ts";
import { ecsPolicy } from "./policy.ts";

const unapplied = (record: MessageInitShape<typeof ContainerRecordSchema>) =>
  ecsPolicy.notApplied(create(ContainerRecordSchema, record)).map(({ name }) => name);

const refused = (hostConfig: MessageInitShape<typeof HostConfigSchema>) =>
  ecsPolicy.unsupported(create(ContainerRecordSchema, { hostConfig }));

describe("what Fargate cannot do", () => {
  it("is refused by name", () => {
    assert.deepEqual(refused({ privileged: true, pidMode: "host" }), ["--privileged", "--pid"]);
  });

  it("is no capability that every container has, nor SYS_PTRACE", () => {
    assert.deepEqual(refused({ capDrop: ["ALL"], capAdd: ["CAP_CHOWN", "CAP_SYS_PTRACE"] }), []);
    assert.match(refused({ capAdd: ["CAP_NET_ADMIN"] }).join(), /^--cap-add/);
    assert.match(refused({ capAdd: ["ALL"] }).join(), /^--cap-add/);
  });

  it("is no confinement that a container asks to be without, which is told to its log", () => {
    const open = {
      securityOpt: ["seccomp=unconfined", "apparmor:unconfined"],
      maskedPaths: { values: [] },
      cgroupnsMode: "host",
    };
    assert.deepEqual(refused(open), []);
    const endpoints = { bridge: { config: { macAddress: "02:42:ac:11:00:99" } } };
    assert.deepEqual(unapplied({ hostConfig: open, endpoints }), [
      "--cgroupns host",
      "--mac-address",
      "--security-opt seccomp=unconfined, apparmor=unconfined",
      "--security-opt systempaths=unconfined",
    ]);
    const seccomp = 'seccomp={"defaultAction":"SCMP_ACT_ALLOW"}';
    assert.deepEqual(refused({ securityOpt: [seccomp] }), ["--security-opt seccomp=PROFILE"]);
    assert.deepEqual(refused({ securityOpt: ["no-new-privileges", seccomp] }), [
      "--security-opt seccomp=PROFILE",
    ]);
    assert.deepEqual(refused({ securityOpt: ["apparmor=mine", "writable-cgroups=true"] }), [
      "--security-opt apparmor=PROFILE (all but docker-default)",
      "--security-opt (others)",
    ]);
  });

  it("is told where masked and read-only paths are others than Docker's, and what the task has instead", () => {
    const own = "MaskedPaths and ReadonlyPaths of the user's own";
    assert.deepEqual(unapplied({ hostConfig: { maskedPaths: { values: ["/proc/kcore"] } } }), [own]);
    assert.deepEqual(
      unapplied({ hostConfig: { readonlyPaths: { values: [...readonlyPaths, "/proc/mine"] } } }),
      [own],
    );
    assert.deepEqual(
      unapplied({
        hostConfig: {
          maskedPaths: { values: maskedPaths.toReversed() },
          readonlyPaths: { values: [...readonlyPaths] },
        },
      }),
      [],
    );
    assert.deepEqual(unapplied({ hostConfig: { ipcMode: "none" } }), ["--ipc none"]);
    const endpoints = { net: { config: { linkLocalIps: ["169.254.1.2"] } } };
    assert.deepEqual(unapplied({ hostConfig: {}, endpoints }), ["--link-local-ip"]);
  });

  it("is nothing that clients send for neutral", () => {
    assert.deepEqual(refused({ securityOpt: ["seccomp=builtin", "apparmor=docker-default"] }), []);
    assert.deepEqual(refused({ ipcMode: "private", shmSize: 67_108_864n, networkMode: "default" }), []);
  });
});
