import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { create } from "@bufbuild/protobuf";

import { SeccompProfileSchema } from "../../../gen/sockerless/agent/v1/agent_pb.ts";
import { HostConfigSchema } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import { agentSeccomp } from "./agent-seccomp.ts";

function told(profile: object | string, architecture = "amd64", capDrop: string[] = []) {
  const text = typeof profile === "string" ? profile : JSON.stringify(profile);
  const hostConfig = create(HostConfigSchema, { securityOpt: [`seccomp=${text}`], capDrop });
  const message = agentSeccomp(hostConfig, architecture);
  return message && create(SeccompProfileSchema, message);
}

describe("what an agent is told of a container's seccomp profile", () => {
  it("is its rules for the container's capabilities and the tasks' architecture, with the kernels that only it knows", () => {
    const profile = {
      defaultAction: "SCMP_ACT_ERRNO",
      defaultErrnoRet: 38,
      archMap: [
        { architecture: "SCMP_ARCH_X86_64", subArchitectures: ["SCMP_ARCH_X86"] },
        { architecture: "SCMP_ARCH_AARCH64", subArchitectures: ["SCMP_ARCH_ARM"] },
      ],
      syscalls: [
        {
          names: ["personality"],
          action: "SCMP_ACT_ALLOW",
          args: [{ index: 0, value: 8, valueTwo: 1, op: "SCMP_CMP_MASKED_EQ" }],
          includes: { minKernel: "4.8" },
          excludes: { minKernel: "5.12" },
        },
        { names: ["chroot"], action: "SCMP_ACT_LOG", errnoRet: 5, includes: { caps: ["CAP_SYS_CHROOT"] } },
        { names: ["arch_prctl"], action: "SCMP_ACT_ALLOW", includes: { arches: ["amd64"] } },
      ],
    };
    assert.deepEqual(
      told(profile),
      create(SeccompProfileSchema, {
        defaultAction: "SCMP_ACT_ERRNO",
        defaultErrnoRet: 38,
        architectures: ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        flags: ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
        rules: [
          {
            names: ["personality"],
            action: "SCMP_ACT_ALLOW",
            conditions: [{ index: 0, operator: "SCMP_CMP_MASKED_EQ", value: 8n, valueTwo: 1n }],
            minKernel: "4.8",
            beforeKernel: "5.12",
          },
          { names: ["chroot"], action: "SCMP_ACT_LOG", errnoRet: 5 },
          { names: ["arch_prctl"], action: "SCMP_ACT_ALLOW" },
        ],
      }),
    );
    const elsewhere = told(profile, "arm64", ["CAP_SYS_CHROOT"]);
    assert.deepEqual(elsewhere?.architectures, ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]);
    assert.deepEqual(
      elsewhere?.rules.map(({ names }) => names),
      [["personality"]],
    );
  });

  it("is nothing where there is none, or one that says nothing", () => {
    const none = create(HostConfigSchema, { securityOpt: ["no-new-privileges", "seccomp=unconfined"] });
    assert.equal(agentSeccomp(none, "amd64"), undefined);
    assert.equal(told("{}"), undefined);
  });

  it("is the last of several profiles", () => {
    const several = create(HostConfigSchema, {
      securityOpt: ['seccomp={"defaultAction":"SCMP_ACT_LOG"}', 'seccomp:{"defaultAction":"SCMP_ACT_ALLOW"}'],
    });
    assert.equal(agentSeccomp(several, "amd64")?.defaultAction, "SCMP_ACT_ALLOW");
  });

  it("is none that runc would refuse", () => {
    const allow = { defaultAction: "SCMP_ACT_ALLOW" };
    const rule = (fields: object) => ({
      ...allow,
      syscalls: [{ names: ["mkdir"], action: "SCMP_ACT_ERRNO", ...fields }],
    });
    for (const [profile, words] of [
      ["{", /^Decoding seccomp profile failed/],
      [{ defaultAction: "SCMP_ACT_JOKE" }, "string SCMP_ACT_JOKE is not a valid action for seccomp"],
      [rule({ action: "" }), "string  is not a valid action for seccomp"],
      [rule({ names: [""] }), "empty string is not a valid syscall"],
      [
        rule({ args: [{ index: 0, op: "SCMP_CMP_LIKE" }] }),
        "string SCMP_CMP_LIKE is not a valid operator for seccomp",
      ],
      [rule({ args: [{ index: 6, op: "SCMP_CMP_EQ" }] }), "system calls have no argument 6"],
      [{ ...allow, architectures: ["Z80"] }, "string Z80 is not a valid arch for seccomp"],
      [{ ...allow, flags: ["LOUD"] }, "seccomp flag LOUD is not known"],
    ] as const) {
      assert.throws(() => told(profile), { kind: "invalid", message: words }, JSON.stringify(profile));
    }
  });
});
