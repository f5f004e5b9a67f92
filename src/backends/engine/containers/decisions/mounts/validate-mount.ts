/** Validates an entry of `Mounts`, with Docker's texts. */
import path from "node:path/posix";

import { invalid } from "../../../../../common/errors.ts";
import type { Mount, TmpfsOptions } from "../../../../../gen/sockerless/backend/v1/config_pb.ts";

/** Values of mount propagation. */
export const propagations: ReadonlySet<string> = new Set([
  "private",
  "rprivate",
  "slave",
  "rslave",
  "shared",
  "rshared",
]);

/** Limit of a path's length; the kernel's, which counts bytes and a final zero. */
export const pathMax = 4096;

/**
 * Refuses an invalid mount.
 *
 * @throws invalid, `invalid mount config for type "…": …`
 */
export function validateMount(mount: Mount): void {
  const fault = faultOfLength(mount) ?? faultOfTarget(mount) ?? faultOfType(mount);
  if (fault !== undefined) {
    throw invalid(`invalid mount config for type ${JSON.stringify(mount.type)}: ${fault}`);
  }
}

/** The error of a bind mount whose source does not exist; thrown where the machine's files are accessible. */
export function bindSourceMissing(source: string): Error {
  return invalid(`invalid mount config for type "bind": bind source path does not exist: ${source}`);
}

function faultOfLength({ source, target }: Mount): string | undefined {
  return source.length < pathMax && target.length < pathMax
    ? undefined
    : "invalid mount path: file name too long";
}

function faultOfTarget(mount: Mount): string | undefined {
  if (mount.target === "") {
    return "field Target must not be empty";
  }
  if (path.normalize(mount.target).replace(/(.)\/$/, "$1") === "/") {
    return "invalid specification: destination can't be '/'";
  }
  return faultOfPath(mount.target);
}

function faultOfPath(text: string): string | undefined {
  if (text.includes("\0")) {
    return "invalid mount path: it contains a NUL byte";
  }
  return path.isAbsolute(text) ? undefined : `invalid mount path: '${text}' mount path must be absolute`;
}

function faultOfType(mount: Mount): string | undefined {
  switch (mount.type) {
    case "bind":
      return faultOfBind(mount);
    case "volume":
      return faultOfVolume(mount);
    case "tmpfs":
      return faultOfTmpfs(mount);
    case "image":
      return faultOfImage(mount);
    default:
      return "mount type unknown";
  }
}

function faultOfBind(mount: Mount): string | undefined {
  if (mount.source === "") {
    return "field Source must not be empty";
  }
  const propagation = mount.bindOptions?.propagation ?? "";
  if (propagation !== "" && !propagations.has(propagation)) {
    return `invalid propagation mode: ${propagation}`;
  }
  return extraField(mount, ["volumeOptions", "imageOptions"]) ?? faultOfPath(mount.source);
}

function faultOfVolume(mount: Mount): string | undefined {
  const subpath = mount.volumeOptions?.subpath ?? "";
  const extra = extraField(mount, ["bindOptions", "imageOptions"]);
  if (extra !== undefined) {
    return extra;
  }
  if (subpath !== "" && mount.source === "") {
    return "must not set Subpath when using anonymous volumes";
  }
  if (subpath !== "" && !isLocalPath(subpath)) {
    return "subpath must be a relative path within the volume";
  }
  return mount.readOnly && mount.source === ""
    ? "must not set ReadOnly mode when using anonymous volumes"
    : undefined;
}

function faultOfTmpfs(mount: Mount): string | undefined {
  const extra = extraField(mount, ["bindOptions", "imageOptions"]);
  if (extra !== undefined) {
    return extra;
  }
  return mount.source === "" ? faultOfTmpfsOptions(mount.tmpfsOptions) : "field Source must not be specified";
}

function faultOfTmpfsOptions(options: TmpfsOptions | undefined): string | undefined {
  for (const { values } of options?.options ?? []) {
    const [name = ""] = values;
    if (values.length < 1 || values.length > 2) {
      return "invalid option array length";
    }
    if (name !== "exec" && name !== "noexec") {
      return `invalid option: ${name}`;
    }
  }
  return undefined;
}

function faultOfImage(mount: Mount): string | undefined {
  const extra = extraField(mount, ["bindOptions", "volumeOptions"]);
  if (extra !== undefined) {
    return extra;
  }
  if (mount.source === "") {
    return "field Source must not be empty";
  }
  const subpath = mount.imageOptions?.subpath ?? "";
  return subpath === "" || isLocalPath(subpath)
    ? undefined
    : "subpath must be a relative path within the volume";
}

type OptionsField = "bindOptions" | "volumeOptions" | "imageOptions";

const optionNames: Readonly<Record<OptionsField, string>> = {
  bindOptions: "BindOptions",
  volumeOptions: "VolumeOptions",
  imageOptions: "ImageOptions",
};

function extraField(mount: Mount, fields: readonly OptionsField[]): string | undefined {
  const extra = fields.find((field) => mount[field] !== undefined);
  return extra === undefined ? undefined : `field ${optionNames[extra]} must not be specified`;
}

/** Whether a relative path lexically stays within its base directory. */
function isLocalPath(text: string): boolean {
  const normal = path.normalize(text);
  return !path.isAbsolute(text) && normal !== ".." && !normal.startsWith("../");
}
