import assert from "node:assert/strict";
import { test } from "node:test";
import { defaultCapabilities } from "../../common/linux-capabilities.ts";
import { dockersProfile, parseSeccompProfile, resolveSeccomp, type SeccompTarget } from "./seccomp.ts";
import type { OciSeccomp } from "./types.ts";

const target: SeccompTarget = {
  architecture: "amd64",
  kernel: "6.1.0-13-amd64",
  capabilities: defaultCapabilities,
};

function allows(profile: OciSeccomp | undefined, syscall: string): boolean {
  return (
    profile?.syscalls.some((rule) => rule.action === "SCMP_ACT_ALLOW" && rule.names.includes(syscall)) ??
    false
  );
}

test("the default profile refuses what it does not name", () => {
  const profile = resolveSeccomp(dockersProfile, target);
  assert.equal(profile?.defaultAction, "SCMP_ACT_ERRNO");
  assert.deepEqual(profile?.architectures, ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
  assert.ok(allows(profile, "openat2") && allows(profile, "chroot") && allows(profile, "ptrace"));
  for (const dangerous of ["mount", "bpf", "reboot", "init_module", "open_by_handle_at", "settimeofday"]) {
    assert.ok(!allows(profile, dangerous), dangerous);
  }
});

test("a capability opens its system calls", () => {
  const admin = resolveSeccomp(dockersProfile, { ...target, capabilities: ["CAP_SYS_ADMIN"] });
  assert.ok(allows(admin, "mount") && allows(admin, "bpf"));
  assert.ok(!allows(admin, "chroot"), "CAP_SYS_CHROOT was not given");
});

test("clone with new namespaces and clone3 are closed without CAP_SYS_ADMIN", () => {
  const rules = resolveSeccomp(dockersProfile, target)?.syscalls ?? [];
  const clone = rules.filter((rule) => rule.names.includes("clone"));
  assert.equal(clone.length, 1);
  assert.equal(clone[0]?.args?.[0]?.op, "SCMP_CMP_MASKED_EQ");
  assert.equal(rules.find((rule) => rule.names.includes("clone3"))?.errnoRet, 38);
});

test("a rule for newer kernels does not hold on older ones", () => {
  assert.ok(!allows(resolveSeccomp(dockersProfile, { ...target, kernel: "4.4.0" }), "ptrace"));
  assert.ok(allows(resolveSeccomp(dockersProfile, { ...target, kernel: "4.8.0" }), "ptrace"));
});

test("rules for other architectures are left out", () => {
  assert.ok(allows(resolveSeccomp(dockersProfile, target), "arch_prctl"));
  assert.ok(!allows(resolveSeccomp(dockersProfile, { ...target, architecture: "arm64" }), "arch_prctl"));
});

test("a profile of the user's is read in both spellings of names", () => {
  const profile = resolveSeccomp(
    parseSeccompProfile(
      JSON.stringify({
        defaultAction: "SCMP_ACT_ALLOW",
        syscalls: [
          { name: "mkdir", action: "SCMP_ACT_ERRNO" },
          { names: ["rmdir"], action: "SCMP_ACT_ERRNO" },
        ],
      }),
    ),
    target,
  );
  assert.deepEqual(
    profile?.syscalls.map((rule) => rule.names),
    [["mkdir"], ["rmdir"]],
  );
});

test("a profile that is none is refused, not ignored", () => {
  assert.throws(() => parseSeccompProfile("{"), {
    kind: "invalid",
    message: /^Decoding seccomp profile failed/,
  });
  assert.throws(() => parseSeccompProfile("[]"), { kind: "invalid" });
});
