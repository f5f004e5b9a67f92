import { arch, release } from "node:os";
import { invalid } from "../../../common/errors.ts";
import defaultProfile from "./default-seccomp.json" with { type: "json" };
import type { OciSeccomp, OciSyscallRule } from "./types.ts";

/**
 * A seccomp profile in Docker's format: the OCI one with rules that hold only
 * for some architectures, capabilities or kernels.
 */
export interface SeccompProfile {
  readonly defaultAction?: string;
  readonly defaultErrnoRet?: number;
  readonly architectures?: readonly string[];
  readonly archMap?: readonly {
    readonly architecture: string;
    readonly subArchitectures: readonly string[] | null;
  }[];
  readonly syscalls?: readonly ProfileRule[];
  readonly flags?: readonly string[];
}

interface ProfileRule extends Omit<OciSyscallRule, "names"> {
  readonly name?: string;
  readonly names?: readonly string[];
  readonly includes?: RuleCondition;
  readonly excludes?: RuleCondition;
}

interface RuleCondition {
  readonly arches?: readonly string[];
  readonly caps?: readonly string[];
  readonly minKernel?: string;
}

/** Where a profile is to hold. */
export interface SeccompTarget {
  /** GOARCH name, which is what profiles use: "amd64", "arm64". */
  readonly architecture: string;
  /** Kernel release, "6.1.0-13-amd64". */
  readonly kernel: string;
  /** Bounding set of the container. */
  readonly capabilities: readonly string[];
}

const seccompArchitecture: Readonly<Record<string, string>> = {
  amd64: "SCMP_ARCH_X86_64",
  arm64: "SCMP_ARCH_AARCH64",
  riscv64: "SCMP_ARCH_RISCV64",
  s390x: "SCMP_ARCH_S390X",
};

/** This machine, for a container with the given capabilities. */
export function seccompTarget(capabilities: readonly string[]): SeccompTarget {
  const machine = arch();
  return { architecture: machine === "x64" ? "amd64" : machine, kernel: release(), capabilities };
}

/** Docker's default profile. */
export const dockersProfile: SeccompProfile = defaultProfile;

/**
 * Reads a profile as `--security-opt seccomp=` carries it (the CLI sends the
 * file's content).
 *
 * @throws SockerlessError `invalid`
 */
export function parseSeccompProfile(json: string): SeccompProfile {
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch (cause) {
    throw invalid(`Decoding seccomp profile failed: ${(cause as Error).message}`, cause);
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) {
    throw invalid("Decoding seccomp profile failed: not an object");
  }
  const profile = parsed as SeccompProfile;
  if (profile.syscalls !== undefined && !Array.isArray(profile.syscalls)) {
    throw invalid("Decoding seccomp profile failed: syscalls is not a list");
  }
  if ((profile.architectures?.length ?? 0) > 0 && (profile.archMap?.length ?? 0) > 0) {
    throw invalid(
      "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'",
    );
  }
  return profile;
}

/** The profile's rules that hold for the target, as the runtime takes them. */
export function resolveSeccomp(profile: SeccompProfile, target: SeccompTarget): OciSeccomp | undefined {
  const rules = profile.syscalls ?? [];
  if (profile.defaultAction === undefined && rules.length === 0) {
    return undefined;
  }
  const native = seccompArchitecture[target.architecture];
  const mapped = profile.archMap?.find((entry) => entry.architecture === native);
  const architectures =
    mapped === undefined ? profile.architectures : [mapped.architecture, ...(mapped.subArchitectures ?? [])];
  return {
    defaultAction: profile.defaultAction ?? "SCMP_ACT_ERRNO",
    ...(profile.defaultErrnoRet !== undefined && { defaultErrnoRet: profile.defaultErrnoRet }),
    ...(architectures !== undefined && { architectures }),
    ...(profile.flags !== undefined && { flags: profile.flags }),
    syscalls: rules.filter((rule) => holds(rule, target)).map(withoutConditions),
  };
}

function holds(rule: ProfileRule, target: SeccompTarget): boolean {
  const { includes, excludes } = rule;
  if (excludes !== undefined) {
    const excluded =
      (excludes.arches?.includes(target.architecture) ?? false) ||
      (excludes.caps?.some((name) => target.capabilities.includes(name)) ?? false) ||
      (excludes.minKernel !== undefined && kernelAtLeast(target.kernel, excludes.minKernel));
    if (excluded) {
      return false;
    }
  }
  if (includes === undefined) {
    return true;
  }
  const arches = includes.arches ?? [];
  const caps = includes.caps ?? [];
  return (
    (arches.length === 0 || arches.includes(target.architecture)) &&
    caps.every((name) => target.capabilities.includes(name)) &&
    (includes.minKernel === undefined || kernelAtLeast(target.kernel, includes.minKernel))
  );
}

function withoutConditions(rule: ProfileRule): OciSyscallRule {
  const { name, names, includes: _includes, excludes: _excludes, ...kept } = rule;
  return { ...kept, names: names ?? (name === undefined ? [] : [name]) };
}

function kernelAtLeast(kernel: string, minimum: string): boolean {
  const [major = 0, minor = 0] = kernel.split(/[.-]/).map(Number);
  const [wantedMajor = 0, wantedMinor = 0] = minimum.split(".").map(Number);
  return major > wantedMajor || (major === wantedMajor && minor >= wantedMinor);
}
