/** Docker's seccomp profiles: parsing, and selecting the rules for a container. */
import * as v from "valibot";

import { mustRead, object, orUndefined, size } from "../../common/documents.ts";
import { invalid } from "../../common/errors.ts";

/** Unsigned 64-bit; a double cannot represent all values. */
const uint64 = v.pipe(
  v.bigint(),
  v.minValue(0n, "Too small: expected bigint to be >=0"),
  v.maxValue(2n ** 64n - 1n, `Too big: expected bigint to be <=${2n ** 64n - 1n}`),
);
const uint32 = v.pipe(size, v.maxValue(2 ** 32 - 1, `Too big: expected number to be <=${2 ** 32 - 1}`));
const strings = orUndefined(v.array(v.string()));

const kernelVersion = v.pipe(
  v.string(),
  v.regex(/^\d+\.\d+/, 'invalid kernel version: expected "<kernel>.<major>"'),
);

const conditionSchema = orUndefined(
  object({ arches: strings, caps: strings, minKernel: orUndefined(kernelVersion) }),
);

const argumentSchema = object({
  index: uint32,
  value: v.nullish(uint64, 0n),
  valueTwo: v.nullish(uint64, 0n),
  op: v.string(),
});

const ruleSchema = object({
  name: orUndefined(v.string()),
  names: strings,
  action: v.string(),
  errnoRet: orUndefined(uint32),
  args: orUndefined(v.array(argumentSchema)),
  includes: conditionSchema,
  excludes: conditionSchema,
});

const profileSchema = object({
  defaultAction: orUndefined(v.string()),
  defaultErrnoRet: orUndefined(uint32),
  architectures: strings,
  archMap: orUndefined(v.array(object({ architecture: v.string(), subArchitectures: strings }))),
  syscalls: orUndefined(v.array(ruleSchema)),
  flags: strings,
  listenerPath: orUndefined(v.string()),
});

/**
 * A seccomp profile in Docker's format: the OCI format with rules restricted to some architectures, capabilities or
 * kernels.
 */
export type SeccompProfile = v.InferOutput<typeof profileSchema>;
type ProfileRule = NonNullable<SeccompProfile["syscalls"]>[number];

/** The container and machine that a profile is resolved for, except the kernel. */
export interface SeccompTarget {
  /** GOARCH name, as used in profiles: "amd64", "arm64". */
  readonly architecture: string;
  /** The container's bounding set. */
  readonly capabilities: readonly string[];
}

/** The parts of the OCI runtime specification's `linux.seccomp` that profiles fill in. */
export interface ResolvedProfile<Rule extends ResolvedRule = ResolvedRule> {
  readonly defaultAction: string;
  readonly defaultErrnoRet?: number;
  readonly architectures?: readonly string[];
  readonly flags?: readonly string[];
  readonly syscalls: readonly Rule[];
}

/** A rule after Docker's conditions were resolved. */
export interface ResolvedRule {
  readonly names: readonly string[];
  readonly action: string;
  readonly errnoRet?: number;
  readonly args?: readonly {
    readonly index: number;
    readonly value: bigint;
    readonly valueTwo: bigint;
    readonly op: string;
  }[];
}

/** A rule with its range of kernels, as `major.minor`. */
export interface KernelRule extends ResolvedRule {
  /** The first kernel in the range. */
  readonly minKernel?: string;
  /** The first kernel after the range. */
  readonly beforeKernel?: string;
}

const seccompArchitecture: Readonly<Record<string, string>> = {
  amd64: "SCMP_ARCH_X86_64",
  arm64: "SCMP_ARCH_AARCH64",
  riscv64: "SCMP_ARCH_RISCV64",
  s390x: "SCMP_ARCH_S390X",
};

const decimal = /^\d+$/;
const isOperand = (key: string): boolean => key === "value" || key === "valueTwo";

/** Node's `JSON.parse`, with the source text of numbers, which TypeScript's library does not declare. */
const parseJson = JSON.parse as (
  text: string,
  reviver: (key: string, value: unknown, context: { readonly source?: string }) => unknown,
) => unknown;

/** The longest profile, in characters; Docker's own has 15,000. */
const longestProfile = 262_144;

/**
 * Parses a profile from `--security-opt seccomp=` (the CLI sends the file's content).
 *
 * @throws SockerlessError `invalid` in dockerd's words
 */
export function parseSeccompProfile(json: string): SeccompProfile {
  if (json.length > longestProfile) {
    throw invalid(`Decoding seccomp profile failed: it has more than ${longestProfile} characters`);
  }
  let profile: SeccompProfile;
  try {
    const parsed = parseJson(json, (key, value, { source = "" }) =>
      isOperand(key) && typeof value === "number" && decimal.test(source) ? BigInt(source) : value,
    );
    profile = mustRead(profileSchema, parsed);
  } catch (cause) {
    throw invalid(`Decoding seccomp profile failed: ${(cause as Error).message}`, cause);
  }
  if ((profile.architectures?.length ?? 0) > 0 && (profile.archMap?.length ?? 0) > 0) {
    throw invalid(
      "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'",
    );
  }
  if (profile.syscalls?.some(({ name = "", names = [] }) => name !== "" && names.length > 0)) {
    throw invalid(
      "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'",
    );
  }
  return profile;
}

/**
 * The profile's rules for the target, each with its range of kernels, for a receiver that knows the kernel.
 *
 * @returns undefined for an empty profile, which filters nothing
 */
export function resolveSeccomp(
  profile: SeccompProfile,
  target: SeccompTarget,
): ResolvedProfile<KernelRule> | undefined {
  const rules = profile.syscalls ?? [];
  if ((profile.defaultAction ?? "") === "" && rules.length === 0) {
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
    syscalls: rules.filter((rule) => holds(rule, target)).map(withKernels),
  };
}

/** Resolves a profile for a known kernel, in the format of an OCI runtime. */
export function resolveSeccompOn(
  /** Kernel release: "6.1.0-13-amd64". */
  kernel: string,
  profile: SeccompProfile,
  target: SeccompTarget,
): ResolvedProfile | undefined {
  const resolved = resolveSeccomp(profile, target);
  return (
    resolved && {
      ...resolved,
      syscalls: resolved.syscalls
        .filter(
          ({ minKernel, beforeKernel }) =>
            (minKernel === undefined || kernelAtLeast(kernel, minKernel)) &&
            (beforeKernel === undefined || !kernelAtLeast(kernel, beforeKernel)),
        )
        .map(({ minKernel: _min, beforeKernel: _before, ...rule }) => rule),
    }
  );
}

function holds({ includes, excludes }: ProfileRule, target: SeccompTarget): boolean {
  const excluded =
    (excludes?.arches?.includes(target.architecture) ?? false) ||
    (excludes?.caps?.some((name) => target.capabilities.includes(name)) ?? false);
  const arches = includes?.arches ?? [];
  const caps = includes?.caps ?? [];
  return (
    !excluded &&
    (arches.length === 0 || arches.includes(target.architecture)) &&
    caps.every((name) => target.capabilities.includes(name))
  );
}

function withKernels({ name, names, action, errnoRet, args, includes, excludes }: ProfileRule): KernelRule {
  const [minKernel, beforeKernel] = [includes?.minKernel, excludes?.minKernel];
  return {
    names: names ?? (name === undefined ? [] : [name]),
    action,
    ...(errnoRet !== undefined && { errnoRet }),
    ...(args !== undefined && { args }),
    ...(minKernel !== undefined && { minKernel }),
    ...(beforeKernel !== undefined && { beforeKernel }),
  };
}

function kernelAtLeast(kernel: string, minimum: string): boolean {
  const [major = 0, minor = 0] = kernel.split(/[.-]/).map(Number);
  const [wantedMajor = 0, wantedMinor = 0] = minimum.split(".").map(Number);
  return major > wantedMajor || (major === wantedMajor && minor >= wantedMinor);
}
