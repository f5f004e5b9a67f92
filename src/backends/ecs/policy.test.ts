import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";

import type { HostConfigSchema } from "../../gen/sockerless/backend/v1/config_pb.ts";
import { ContainerRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import { ecsPolicy } from "./policy.ts";
import { notApplied, settingsOf } from "./settings.ts";

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
    const record = create(ContainerRecordSchema, { hostConfig: open, endpoints });
    assert.deepEqual(
      settingsOf(notApplied, record).map(({ name }) => name),
      [
        "--cgroupns host",
        "--mac-address",
        "--security-opt seccomp=unconfined, apparmor=unconfined",
        "--security-opt systempaths=unconfined",
      ],
    );
    assert.match(refused({ securityOpt: ['seccomp={"defaultAction":"SCMP_ACT_ALLOW"}'] }).join(), /profiles/);
  });

  it("is nothing that clients send for neutral", () => {
    assert.deepEqual(refused({ ipcMode: "private", shmSize: 67_108_864n, networkMode: "default" }), []);
  });
});
