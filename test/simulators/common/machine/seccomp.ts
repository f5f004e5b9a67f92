/** The system calls that a container may make: Debian's list for container engines, as tight as Docker's. */
import { existsSync, readFileSync } from "node:fs";

/** The list as `golang-github-containers-common` installs it. */
const profileFile = "/usr/share/containers/seccomp.json";

interface Condition {
  readonly arches?: readonly string[];
  readonly caps?: readonly string[];
}

interface Rule {
  readonly names: readonly string[];
  readonly action: string;
  readonly args?: readonly object[] | null;
  readonly errnoRet?: number;
  readonly includes?: Condition;
  readonly excludes?: Condition;
}

interface Profile {
  readonly defaultAction: string;
  readonly defaultErrnoRet: number;
  readonly archMap: readonly {
    readonly architecture: string;
    readonly subArchitectures: readonly string[];
  }[];
  readonly syscalls: readonly Rule[];
}

/** Calls that Docker allows only with SYS_ADMIN; Debian's list, which is podman's, allows them to everybody. */
const forAdministrators = new Set(
  "clone clone3 fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree pivot_root setns umount umount2 unshare".split(
    " ",
  ),
);

/** A clone that makes no namespace. */
const plainClone: Rule = {
  names: ["clone"],
  action: "SCMP_ACT_ALLOW",
  args: [{ index: 0, value: 0x7e020000, valueTwo: 0, op: "SCMP_CMP_MASKED_EQ" }],
};

const architectures: Readonly<Record<string, { readonly scmp: string; readonly names: readonly string[] }>> =
  {
    x64: { scmp: "SCMP_ARCH_X86_64", names: ["amd64", "x32", "x86"] },
    arm64: { scmp: "SCMP_ARCH_AARCH64", names: ["arm64", "arm"] },
  };

let profileRead: Profile | undefined;

/** `linux.seccomp` of a runtime specification; undefined where this machine has no list or is of another architecture. */
export function seccompFor(capabilities: readonly string[]): object | undefined {
  const architecture = architectures[process.arch];
  if (architecture === undefined || !existsSync(profileFile)) {
    return undefined;
  }
  profileRead ??= JSON.parse(readFileSync(profileFile, "utf8")) as Profile;
  const profile = profileRead;
  const others =
    profile.archMap.find((entry) => entry.architecture === architecture.scmp)?.subArchitectures ?? [];
  const holds = ({ arches, caps }: Condition): boolean =>
    (arches?.some((arch) => architecture.names.includes(arch)) ?? true) &&
    (caps?.every((capability) => capabilities.includes(capability)) ?? true);
  const excluded = ({ arches, caps }: Condition): boolean =>
    (arches?.some((arch) => architecture.names.includes(arch)) ?? false) ||
    (caps?.some((capability) => capabilities.includes(capability)) ?? false);
  return {
    defaultAction: profile.defaultAction,
    defaultErrnoRet: profile.defaultErrnoRet,
    architectures: [architecture.scmp, ...others],
    syscalls: [
      ...profile.syscalls
        .filter(({ includes, excludes }) => holds(includes ?? {}) && !excluded(excludes ?? {}))
        .map(({ names, action, args, errnoRet }) => ({
          names: action === "SCMP_ACT_ALLOW" ? names.filter((name) => !forAdministrators.has(name)) : names,
          action,
          ...((args?.length ?? 0) > 0 && { args }),
          ...(errnoRet !== undefined && { errnoRet }),
        }))
        .filter(({ names }) => names.length > 0),
      plainClone,
    ],
  };
}
