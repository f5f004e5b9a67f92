import { invalid } from "../../common/errors.ts";
import { parseSeccompProfile, type SeccompProfile } from "./seccomp.ts";

/** A container's parsed `--security-opt` options. */
export interface SecurityOptions {
  readonly noNewPrivileges: boolean;
  /** `builtin`: Docker's own profile; undefined: not specified. */
  readonly seccomp: SeccompProfile | "builtin" | "unconfined" | undefined;
  /** Name of the AppArmor profile; undefined or empty: not specified. */
  readonly appArmor: string | undefined;
  /** `systempaths=unconfined`: nothing of /proc and /sys is masked or read-only. */
  readonly systemPathsUnconfined: boolean;
  /** Whether the container may change its control groups; undefined: if it is privileged. */
  readonly writableCgroups: boolean | undefined;
}

/**
 * Parses `HostConfig.SecurityOpt`; of repeated options the last counts.
 *
 * @throws SockerlessError `invalid` in dockerd's words
 */
export function parseSecurityOptions(options: readonly string[]): SecurityOptions {
  let noNewPrivileges = false;
  let seccomp: string | undefined;
  let appArmor: string | undefined;
  let systemPathsUnconfined = false;
  let writableCgroups: boolean | undefined;
  for (const option of options) {
    if (option === "no-new-privileges") {
      noNewPrivileges = true;
      continue;
    }
    if (option === "writable-cgroups") {
      writableCgroups = true;
      continue;
    }
    if (option === "disable") {
      continue; // Same as `label=disable`.
    }
    const [key, value] = splitOption(option);
    switch (key) {
      case "no-new-privileges":
        noNewPrivileges = parseBoolean(option, value);
        break;
      case "writable-cgroups":
        writableCgroups = parseBoolean(option, value);
        break;
      case "seccomp":
        seccomp = value;
        break;
      case "apparmor":
        appArmor = value;
        break;
      case "systempaths":
        systemPathsUnconfined = value === "unconfined";
        break;
      case "label":
        break; // Without SELinux, labels have no effect, as under dockerd.
      default:
        throw invalid(`invalid --security-opt 2: "${option}"`);
    }
  }
  return {
    noNewPrivileges,
    seccomp:
      seccomp === undefined || seccomp === "unconfined" || seccomp === "builtin"
        ? seccomp
        : parseSeccompProfile(seccomp),
    appArmor,
    systemPathsUnconfined,
    writableCgroups,
  };
}

/** `key=value`, or the old `key:value`. */
function splitOption(option: string): [string, string] {
  const at = option.includes("=") ? option.indexOf("=") : option.indexOf(":");
  if (at < 0) {
    throw invalid(`invalid --security-opt 1: "${option}"`);
  }
  return [option.slice(0, at), option.slice(at + 1)];
}

function parseBoolean(option: string, value: string): boolean {
  if (!["1", "t", "T", "true", "TRUE", "True", "0", "f", "F", "false", "FALSE", "False"].includes(value)) {
    throw invalid(`invalid --security-opt 2: "${option}"`);
  }
  return /^(1|t)/i.test(value);
}
