import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";

import type { HostConfigSchema } from "../../gen/sockerless/backend/v1/config_pb.ts";
import { ContainerRecordSchema } from "../../gen/sockerless/state/v1/state_pb.ts";
import { ecsPolicy } from "./policy.ts";

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

  it("is nothing that clients send for neutral", () => {
    assert.deepEqual(refused({ ipcMode: "private", shmSize: 67_108_864n, networkMode: "default" }), []);
  });
});
