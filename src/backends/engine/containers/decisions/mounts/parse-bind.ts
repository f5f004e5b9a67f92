/** Entries of `Binds` and `VolumesFrom`: `source:destination:options`, `container:mode`. */
import path from "node:path/posix";

import { create } from "@bufbuild/protobuf";

import { invalid, messageOf } from "../../../../../common/errors.ts";
import { type Mount, MountSchema } from "../../../../../gen/sockerless/backend/v1/config_pb.ts";
import { pathMax, propagations, validateMount } from "./validate-mount.ts";

/** A parsed entry of `Binds`. */
export interface ParsedBind {
  /** The equivalent entry of `Mounts`. */
  readonly mount: Mount;
  /** The options, verbatim. */
  readonly mode: string;
}

/**
 * @param volumeDriver `HostConfig.VolumeDriver`, for named volumes
 * @throws invalid, Docker's texts
 */
export function parseBind(text: string, volumeDriver: string): ParsedBind {
  if (text.length > 3 * pathMax) {
    throw invalid(`invalid volume specification: it has ${text.length} characters`);
  }
  const parts = text.split(":");
  const [first = "", second, mode = ""] = parts;
  if (first === "" || parts.length > 3 || (parts.length === 2 && isMode(second ?? ""))) {
    throw invalid(`invalid volume specification: '${text}'`);
  }
  if (!isMode(mode)) {
    throw invalid(`invalid mode: ${mode}`);
  }
  const source = second === undefined ? "" : first;
  const options = mode.split(",");
  const isBind = path.isAbsolute(source);
  const propagation = options.find((option) => propagations.has(option));
  const noCopy = options.includes("nocopy");
  const mount = create(MountSchema, {
    type: isBind ? "bind" : "volume",
    source,
    target: second ?? first,
    readOnly: options.includes("ro"),
    ...(propagation === undefined ? {} : { bindOptions: { propagation } }),
    ...(noCopy || (!isBind && volumeDriver !== "")
      ? {
          volumeOptions: {
            noCopy,
            ...(isBind || volumeDriver === "" ? {} : { driverConfig: { name: volumeDriver } }),
          },
        }
      : {}),
  });
  try {
    validateMount(mount);
  } catch (error) {
    throw invalid(`invalid volume specification: '${text}': ${messageOf(error)}`, error);
  }
  return { mount, mode };
}

/** A parsed entry of `VolumesFrom`. */
export interface VolumesFrom {
  readonly container: string;
  readonly readOnly: boolean;
}

/** @throws invalid, Docker's texts */
export function parseVolumesFrom(text: string): VolumesFrom {
  if (text === "") {
    throw invalid("volumes-from specification cannot be an empty string");
  }
  const colon = text.indexOf(":");
  const mode = colon === -1 ? "" : text.slice(colon + 1);
  const options = mode.split(",");
  const foreign = options.some((option) => propagations.has(option) || option === "nocopy");
  if (!isMode(mode) || foreign) {
    throw invalid(`invalid mode: ${mode}`);
  }
  return { container: colon === -1 ? text : text.slice(0, colon), readOnly: options.includes("ro") };
}

/** Groups of mutually exclusive options. */
const exclusive: readonly ReadonlySet<string>[] = [
  new Set(["rw", "ro"]),
  new Set(["z", "Z"]),
  propagations,
  new Set(["nocopy"]),
  new Set(["consistent", "cached", "delegated"]),
];

function isMode(mode: string): boolean {
  if (mode === "") {
    return true;
  }
  const options = mode.split(",");
  return (
    options.every((option) => exclusive.some((group) => group.has(option))) &&
    exclusive.every((group) => options.filter((option) => group.has(option)).length <= 1)
  );
}
