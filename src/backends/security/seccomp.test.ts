import assert from "node:assert/strict";
import { test } from "node:test";

import { parseSeccompProfile, resolveSeccomp, resolveSeccompOn } from "./seccomp.ts";

const target = { architecture: "amd64", capabilities: ["CAP_CHOWN"] };

const read = (profile: object) => parseSeccompProfile(JSON.stringify(profile));

test("a profile of the user's is read in both spellings of names", () => {
  const profile = read({
    defaultAction: "SCMP_ACT_ALLOW",
    syscalls: [
      { name: "mkdir", action: "SCMP_ACT_ERRNO", names: null, args: null, includes: null, excludes: {} },
      { names: ["rmdir"], action: "SCMP_ACT_ERRNO", errnoRet: 38 },
    ],
  });
  assert.deepEqual(resolveSeccomp(profile, target), {
    defaultAction: "SCMP_ACT_ALLOW",
    syscalls: [
      { names: ["mkdir"], action: "SCMP_ACT_ERRNO" },
      { names: ["rmdir"], action: "SCMP_ACT_ERRNO", errnoRet: 38 },
    ],
  });
});

test("operands keep all of their 64 bits", () => {
  const profile = parseSeccompProfile(
    '{"syscalls":[{"name":"mmap","action":"A","args":[{"index":1,"op":"O","value":18446744073709551615,"valueTwo":9007199254740993}]}]}',
  );
  assert.deepEqual(profile.syscalls?.[0]?.args, [
    { index: 1, op: "O", value: 2n ** 64n - 1n, valueTwo: 2n ** 53n + 1n },
  ]);
});

test("rules depend on architectures, capabilities and kernels; the kernel is resolved later", () => {
  const rule = (name: string, conditions: object) => ({ name, action: "SCMP_ACT_ERRNO", ...conditions });
  const profile = read({
    defaultAction: "SCMP_ACT_ALLOW",
    archMap: [{ architecture: "SCMP_ARCH_X86_64", subArchitectures: null }],
    syscalls: [
      rule("a", { includes: { arches: ["arm64"] } }),
      rule("b", { excludes: { arches: ["amd64"] } }),
      rule("c", { includes: { caps: ["CAP_CHOWN", "CAP_KILL"] } }),
      rule("d", { excludes: { caps: ["CAP_CHOWN"] } }),
      rule("e", { includes: { arches: ["amd64"], caps: ["CAP_CHOWN"], minKernel: "4.8" } }),
      rule("f", { excludes: { minKernel: "5.12" } }),
    ],
  });
  const resolved = resolveSeccomp(profile, target);
  assert.deepEqual(resolved?.architectures, ["SCMP_ARCH_X86_64"]);
  assert.deepEqual(resolved?.syscalls, [
    { names: ["e"], action: "SCMP_ACT_ERRNO", minKernel: "4.8" },
    { names: ["f"], action: "SCMP_ACT_ERRNO", beforeKernel: "5.12" },
  ]);
  const on = (kernel: string) => resolveSeccompOn(kernel, profile, target)?.syscalls;
  assert.deepEqual(on("4.4.0"), [{ names: ["f"], action: "SCMP_ACT_ERRNO" }]);
  assert.deepEqual(on("6.1.0-13-amd64"), [{ names: ["e"], action: "SCMP_ACT_ERRNO" }]);
});

test("a profile that says nothing is no filter", () => {
  assert.equal(resolveSeccomp(read({}), target), undefined);
  assert.equal(resolveSeccomp(read({ defaultAction: "", syscalls: [] }), target), undefined);
});

test("an invalid profile is refused, not ignored", () => {
  const rule = (fields: object) => JSON.stringify({ syscalls: [{ name: "mkdir", action: "A", ...fields }] });
  const argument = (fields: object) => rule({ args: [{ index: 0, op: "O", ...fields }] });
  for (const [text, words] of [
    ["{", /^Decoding seccomp profile failed: /],
    ["[]", /^Decoding seccomp profile failed: .*object/],
    ['"profile.json"', /^Decoding seccomp profile failed: /],
    ['{"syscalls":{}}', /^Decoding seccomp profile failed: syscalls: /],
    ['{"syscalls":["mkdir"]}', /^Decoding seccomp profile failed: syscalls\.0: /],
    [rule({ action: 1 }), /^Decoding seccomp profile failed: syscalls\.0\.action: /],
    [rule({ errnoRet: -1 }), /errnoRet/],
    [argument({ value: -1 }), /args\.0\.value/],
    [argument({ value: 1.5 }), /args\.0\.value/],
    ['{"syscalls":[{"action":"A","args":[{"index":0,"op":"O","value":18446744073709551616}]}]}', /value/],
    [rule({ includes: { minKernel: "new" } }), /invalid kernel version/],
    [rule({ names: ["rmdir"] }), /^both 'name' and 'names' are specified/],
    [
      '{"architectures":["A"],"archMap":[{"architecture":"A"}]}',
      /^both 'architectures' and 'archMap' are specified/,
    ],
  ] as const) {
    assert.throws(() => parseSeccompProfile(text), { kind: "invalid", message: words }, text);
  }
});

test("a profile is refused unread where it is longer than any that is meant", () => {
  assert.throws(() => parseSeccompProfile(`${" ".repeat(300_000)}{}`), {
    kind: "invalid",
    message: /more than 262144 characters/,
  });
});
