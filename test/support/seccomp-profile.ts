import { writeFile } from "node:fs/promises";
import { join } from "node:path";

/**
 * Writes a profile that denies three things and nothing else: `mkdir` with EPERM, `chmod` with ENOSPC, and sending
 * SIGUSR1.
 *
 * @param more fields of the profile that are to be others
 * @returns the file's name
 */
export async function writeSeccompProfile(directory: string, more: object = {}): Promise<string> {
  const file = join(directory, "profile.json");
  const profile = {
    defaultAction: "SCMP_ACT_ALLOW",
    archMap: [
      { architecture: "SCMP_ARCH_X86_64", subArchitectures: ["SCMP_ARCH_X86", "SCMP_ARCH_X32"] },
      { architecture: "SCMP_ARCH_AARCH64", subArchitectures: ["SCMP_ARCH_ARM"] },
    ],
    syscalls: [
      {
        names: ["mkdir", "mkdirat", "no_such_call"],
        action: "SCMP_ACT_ERRNO",
        includes: { minKernel: "3.0" },
      },
      { names: ["chmod", "fchmodat", "fchmodat2"], action: "SCMP_ACT_ERRNO", errnoRet: 28 },
      { name: "kill", action: "SCMP_ACT_ERRNO", args: [{ index: 1, value: 10, op: "SCMP_CMP_EQ" }] },
      // None of these is for such a container.
      { names: ["write"], action: "SCMP_ACT_KILL", includes: { caps: ["CAP_SYS_ADMIN"] } },
      { names: ["write"], action: "SCMP_ACT_KILL", includes: { minKernel: "99.0" } },
    ],
    ...more,
  };
  await writeFile(file, JSON.stringify(profile));
  return file;
}

/** Says what of {@link writeSeccompProfile} is denied. */
export const tryDenied =
  "mkdir /made 2>&1; chmod 600 /bin 2>&1; kill -USR1 $$ 2>&1; kill -0 $$ && rmdir /nothing 2>&1";

/** Output of a container under that profile. */
export const denied =
  /^mkdir: .*Operation not permitted\nchmod: .*No space left on device\n.*kill.*Operation not permitted\nrmdir: .*No such file or directory$/;
