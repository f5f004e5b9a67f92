/**
 * The seccomp profile of a cloud container. Its agent loads it, which the kernel allows for processes with
 * `no_new_privs`.
 */
import type { MessageInitShape } from "@bufbuild/protobuf";

import { invalid } from "../../../common/errors.ts";
import type { SeccompProfileSchema, SeccompRuleSchema } from "../../../gen/sockerless/agent/v1/agent_pb.ts";
import type { HostConfig } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import {
  askedCapabilities,
  capabilitiesByBit,
  defaultCapabilities,
} from "../../security/linux-capabilities.ts";
import { parseSecurityOptions } from "../../security/options.ts";
import {
  type KernelRule,
  type ResolvedRule,
  resolveSeccomp,
  type SeccompProfile,
} from "../../security/seccomp.ts";

/** Needs a program outside the container that responds in place of the kernel. */
const notify = "SCMP_ACT_NOTIFY";

const actions: ReadonlySet<string> = new Set([
  ...["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP", "SCMP_ACT_ERRNO"],
  ...["SCMP_ACT_TRACE", "SCMP_ACT_LOG", "SCMP_ACT_ALLOW", notify],
]);
const operators: ReadonlySet<string> = new Set(
  ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"].map((name) => `SCMP_CMP_${name}`),
);
/** runc's list; agents omit those that their kernel lacks. */
const architectures: ReadonlySet<string> = new Set(
  [
    ...["X86", "X86_64", "X32", "ARM", "AARCH64", "MIPS", "MIPS64", "MIPS64N32", "MIPSEL", "MIPSEL64"],
    ...["MIPSEL64N32", "PPC", "PPC64", "PPC64LE", "RISCV64", "S390", "S390X"],
  ].map((name) => `SCMP_ARCH_${name}`),
);
const speculation = "SECCOMP_FILTER_FLAG_SPEC_ALLOW";
const flags: ReadonlySet<string> = new Set([
  ...["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", speculation],
]);
/** Maximum number of arguments of a system call. */
const argumentCount = 6;

/** The profile that a container requests; undefined for only the platform's. */
export function askedProfile({ securityOpt }: Pick<HostConfig, "securityOpt">): SeccompProfile | undefined {
  const { seccomp } = parseSecurityOptions(securityOpt);
  return typeof seccomp === "object" ? seccomp : undefined;
}

/** Whether a profile passes system calls to a listener, which an agent cannot be for its own container. */
export function hasListener({ defaultAction, syscalls = [], listenerPath = "" }: SeccompProfile): boolean {
  return listenerPath !== "" || [defaultAction, ...syscalls.map(({ action }) => action)].includes(notify);
}

/**
 * The profile for the agent, resolved except for what depends on the task's kernel.
 *
 * @param architecture the task's, as GOARCH
 * @returns undefined if the container requests none
 * @throws SockerlessError `invalid` if runc would refuse the profile, in its words
 */
export function agentSeccomp(
  hostConfig: HostConfig,
  architecture: string,
): MessageInitShape<typeof SeccompProfileSchema> | undefined {
  const profile = askedProfile(hostConfig);
  if (profile === undefined) {
    return undefined;
  }
  const capabilities = boundingSet(hostConfig);
  const resolved = resolveSeccomp(profile, { architecture, capabilities });
  if (resolved === undefined) {
    return undefined;
  }
  resolved.syscalls.forEach(checkRule);
  mustBeKnown(actions, resolved.defaultAction, "action");
  resolved.architectures?.forEach((name) => {
    mustBeKnown(architectures, name, "arch");
  });
  resolved.flags?.forEach((name) => {
    if (!flags.has(name)) {
      throw invalid(`seccomp flag ${name} is not known`);
    }
  });
  const { defaultAction, defaultErrnoRet } = resolved;
  return {
    defaultAction,
    ...(defaultErrnoRet !== undefined && { defaultErrnoRet }),
    architectures: [...(resolved.architectures ?? [])],
    flags: [...(resolved.flags ?? [speculation])], // Same as runc.
    rules: resolved.syscalls.map(agentRule),
  };
}

function agentRule({
  names,
  action,
  errnoRet,
  args = [],
  minKernel = "",
  beforeKernel = "",
}: KernelRule): MessageInitShape<typeof SeccompRuleSchema> {
  return {
    names: [...names],
    action,
    ...(errnoRet !== undefined && { errnoRet }),
    conditions: args.map(({ op, ...operands }) => ({ operator: op, ...operands })),
    minKernel,
    beforeKernel,
  };
}

/** Whether all capabilities are requested: as many as the node has. */
export function asksForAll(host: Pick<HostConfig, "capAdd" | "capDrop" | "privileged"> | undefined): boolean {
  return host?.privileged === true || askedCapabilities(host).added.includes("ALL");
}

/** Capabilities of a container, with `CAP_`. */
export function boundingSet(
  host: Pick<HostConfig, "capAdd" | "capDrop" | "privileged"> | undefined,
): string[] {
  const { added, dropped } = askedCapabilities(host);
  if (asksForAll(host)) {
    return capabilitiesByBit.filter((name) => host?.privileged === true || !dropped.includes(name));
  }
  const kept = dropped.includes("ALL") ? [] : defaultCapabilities.filter((name) => !dropped.includes(name));
  return [...new Set([...kept, ...added])];
}

function checkRule({ action, args = [], names }: ResolvedRule): void {
  mustBeKnown(actions, action, "action");
  if (names.includes("")) {
    throw invalid("empty string is not a valid syscall");
  }
  for (const { index, op } of args) {
    mustBeKnown(operators, op, "operator");
    if (index >= argumentCount) {
      throw invalid(`system calls have no argument ${index}`);
    }
  }
}

function mustBeKnown(known: ReadonlySet<string>, name: string, what: "action" | "arch" | "operator"): void {
  if (!known.has(name)) {
    throw invalid(`string ${name} is not a valid ${what} for seccomp`);
  }
}
