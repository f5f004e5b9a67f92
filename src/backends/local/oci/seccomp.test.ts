import assert from "node:assert/strict";
import { test } from "node:test";

import { defaultCapabilities } from "../../security/linux-capabilities.ts";
import { parseSeccompProfile, type ResolvedProfile, resolveSeccompOn } from "../../security/seccomp.ts";
import { dockersProfile, seccompFilter } from "./seccomp.ts";

const target = { architecture: "amd64", capabilities: defaultCapabilities };
const kernel = "6.1.0-13-amd64";

function allows(profile: ResolvedProfile | undefined, syscall: string): boolean {
  return (
    profile?.syscalls.some((rule) => rule.action === "SCMP_ACT_ALLOW" && rule.names.includes(syscall)) ??
    false
  );
}

test("the default profile refuses syscalls that it does not list", () => {
  const profile = resolveSeccompOn(kernel, dockersProfile, target);
  assert.equal(profile?.defaultAction, "SCMP_ACT_ERRNO");
  assert.deepEqual(profile?.architectures, ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
  assert.ok(allows(profile, "openat2") && allows(profile, "chroot") && allows(profile, "ptrace"));
  for (const dangerous of ["mount", "bpf", "reboot", "init_module", "open_by_handle_at", "settimeofday"]) {
    assert.ok(!allows(profile, dangerous), dangerous);
  }
});

test("a capability opens its system calls", () => {
  const admin = resolveSeccompOn(kernel, dockersProfile, { ...target, capabilities: ["CAP_SYS_ADMIN"] });
  assert.ok(allows(admin, "mount") && allows(admin, "bpf"));
  assert.ok(!allows(admin, "chroot"), "CAP_SYS_CHROOT was not given");
});

test("clone with new namespaces and clone3 are closed without CAP_SYS_ADMIN", () => {
  const rules = resolveSeccompOn(kernel, dockersProfile, target)?.syscalls ?? [];
  const clone = rules.filter((rule) => rule.names.includes("clone"));
  assert.equal(clone.length, 1);
  assert.equal(clone[0]?.args?.[0]?.op, "SCMP_CMP_MASKED_EQ");
  assert.equal(rules.find((rule) => rule.names.includes("clone3"))?.errnoRet, 38);
});

test("a rule for newer kernels does not hold on older ones", () => {
  assert.ok(!allows(resolveSeccompOn("4.4.0", dockersProfile, target), "ptrace"));
  assert.ok(allows(resolveSeccompOn("4.8.0", dockersProfile, target), "ptrace"));
});

test("rules for other architectures are left out", () => {
  assert.ok(allows(resolveSeccompOn(kernel, dockersProfile, target), "arch_prctl"));
  const arm = resolveSeccompOn(kernel, dockersProfile, { ...target, architecture: "arm64" });
  assert.ok(!allows(arm, "arch_prctl"));
});

test("a container has Docker's profile, unless it is privileged or asks for another", () => {
  const own = parseSeccompProfile('{"defaultAction":"SCMP_ACT_ALLOW"}');
  const defaultActionOf = (...[asked, privileged]: [Parameters<typeof seccompFilter>[0], boolean]) =>
    seccompFilter(asked, privileged, [])?.defaultAction;
  assert.equal(defaultActionOf(undefined, false), "SCMP_ACT_ERRNO");
  assert.equal(defaultActionOf(undefined, true), undefined);
  assert.equal(defaultActionOf("builtin", true), "SCMP_ACT_ERRNO");
  assert.equal(defaultActionOf("unconfined", false), undefined);
  assert.equal(defaultActionOf(own, true), "SCMP_ACT_ALLOW");
});
