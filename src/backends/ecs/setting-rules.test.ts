import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";

import { buildLabel } from "../../common/build-label.ts";
import type { HostConfigSchema } from "../../gen/sockerless/backend/v1/config_pb.ts";
import { ContainerRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import { maskedPaths, readonlyPaths } from "../security/default-paths.ts";
import { ecsSettings } from "./setting-rules.ts";

const policy = ecsSettings({ architecture: "amd64", hasFileSystem: true, hasDockerSocket: false });

const unapplied = (record: MessageInitShape<typeof ContainerRecordSchema>) =>
  policy.notApplied(create(ContainerRecordSchema, record)).map(({ name }) => name);

const refused = (hostConfig: MessageInitShape<typeof HostConfigSchema>) =>
  policy.unsupported(create(ContainerRecordSchema, { hostConfig }));

describe("what Fargate cannot do", () => {
  it("is refused by name", () => {
    assert.deepEqual(refused({ privileged: true, pidMode: "host" }), ["--privileged", "--pid"]);
  });

  it("is no capability that every container has, nor SYS_PTRACE", () => {
    assert.deepEqual(refused({ capDrop: ["ALL"], capAdd: ["CAP_CHOWN", "CAP_SYS_PTRACE"] }), []);
    assert.match(refused({ capAdd: ["CAP_NET_ADMIN"] }).join(), /^--cap-add/);
    assert.match(refused({ capAdd: ["ALL"] }).join(), /^--cap-add/);
  });

  it("is, of a build's step alone, the host's network", () => {
    const hostConfig = { networkMode: "host" };
    const step = create(ContainerRecordSchema, { hostConfig, config: { labels: { [buildLabel]: "step" } } });
    assert.deepEqual(policy.unsupported(step), ["RUN --network=host"]);
    assert.deepEqual(refused(hostConfig), []);
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
    assert.deepEqual(refused({ securityOpt: ["apparmor=mine", "writable-cgroups=true"] }), [
      "--security-opt apparmor=PROFILE (all but docker-default)",
      "--security-opt (others)",
    ]);
  });

  it("is no seccomp profile of a container without new privileges, whose agent loads it", () => {
    const seccomp = 'seccomp={"defaultAction":"SCMP_ACT_ALLOW"}';
    const without = "--security-opt seccomp=PROFILE (without no-new-privileges)";
    assert.deepEqual(refused({ securityOpt: [seccomp] }), [without]);
    assert.deepEqual(refused({ securityOpt: [seccomp, "no-new-privileges:false"] }), [without]);
    assert.deepEqual(refused({ securityOpt: [seccomp, "no-new-privileges"] }), []);
    assert.deepEqual(refused({ securityOpt: [seccomp, "seccomp=unconfined"] }), []);
    const listening = 'seccomp={"defaultAction":"SCMP_ACT_NOTIFY"}';
    assert.deepEqual(refused({ securityOpt: ["no-new-privileges", listening] }), [
      "--security-opt seccomp=PROFILE (SCMP_ACT_NOTIFY, listenerPath)",
    ]);
    assert.deepEqual(refused({ securityOpt: [seccomp, "writable-cgroups=true"] }), [
      without,
      "--security-opt (others)",
    ]);
    for (const bad of [
      "seccomp={",
      'seccomp={"defaultAction":"SCMP_ACT_JOKE"}',
      "no-new-privileges=perhaps",
    ]) {
      assert.throws(() => refused({ securityOpt: ["no-new-privileges", bad] }), { kind: "invalid" }, bad);
    }
    assert.throws(() => refused({ securityOpt: ["seccomp={"] }), { kind: "invalid" });
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
    const driverOpts = { "com.docker.network.endpoint.ifname": "net0" };
    assert.deepEqual(unapplied({ hostConfig: {}, endpoints: { net: { config: { driverOpts } } } }), [
      "options of endpoints (com.docker.network.endpoint.…)",
    ]);
  });

  it("is nothing that clients send for neutral", () => {
    assert.deepEqual(refused({ securityOpt: ["seccomp=builtin", "apparmor=docker-default"] }), []);
    assert.deepEqual(refused({ ipcMode: "private", shmSize: 67_108_864n, networkMode: "default" }), []);
  });
});
