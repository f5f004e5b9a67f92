import type { LogConfig } from "../../gen/sockerless/backend/v1/config_pb.ts";
import { invalid } from "../../common/errors.ts";

/** What an agent records of a container's output. */
export interface LogSettings {
  readonly disabled: boolean;
  /** Bytes a file; 0: no limit. */
  readonly maxSize: bigint;
  readonly maxFiles: number;
}

/** The `local` log driver's own defaults: 20 MiB a file, five files. */
const LOCAL_DRIVER_DEFAULTS = { maxSize: 20n * 1024n * 1024n, maxFiles: 5 };

/**
 * `--log-driver` json-file, local or none with their sizes.
 *
 * @throws SockerlessError `invalid` for sizes that are none
 */
export function logSettings(config: LogConfig | undefined): LogSettings {
  const type = config?.type ?? "";
  if (type === "none") {
    return { disabled: true, maxSize: 0n, maxFiles: 1 };
  }
  const defaults = type === "local" ? LOCAL_DRIVER_DEFAULTS : { maxSize: 0n, maxFiles: 1 };
  const maxSize = config?.config["max-size"];
  const maxFile = config?.config["max-file"];
  return {
    disabled: false,
    maxSize: maxSize === undefined ? defaults.maxSize : parseSize(maxSize),
    maxFiles: maxFile === undefined ? defaults.maxFiles : parseCount(maxFile),
  };
}

const UNITS: Readonly<Record<string, bigint>> = {
  "": 1n,
  b: 1n,
  k: 1000n,
  m: 1000n ** 2n,
  g: 1000n ** 3n,
  t: 1000n ** 4n,
};

/** A size as `max-size` writes it: `10m`, `1g`, `512kb`, in powers of 1000 as Docker takes them; -1 is no limit. */
function parseSize(text: string): bigint {
  if (text === "-1") {
    return 0n;
  }
  const match = /^([0-9]+)(?:\.([0-9]+))?\s*([bkmgt]?)i?b?$/i.exec(text.trim());
  const unit = UNITS[(match?.[3] ?? "").toLowerCase()];
  if (match === null || unit === undefined) {
    throw invalid(`invalid size: '${text}'`);
  }
  const fraction = match[2] === undefined ? 0 : Number(`0.${match[2]}`) * Number(unit);
  return BigInt(match[1] ?? 0) * unit + BigInt(Math.floor(fraction));
}

function parseCount(text: string): number {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 1) {
    throw invalid("max-file cannot be less than 1");
  }
  return count;
}
