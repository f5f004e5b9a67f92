/** Validation of log configurations at a container's creation, as in moby's `ValidateLogOpts`. */
import { invalid } from "../../common/errors.ts";
import type { LogConfig } from "../../gen/sockerless/backend/v1/config_pb.ts";
import { parseBinarySize, parseBoolean } from "../../common/go-values.ts";

/** The supported log drivers. */
export const logDrivers = ["json-file", "local", "none"] as const;

const sizeOptions = ["compress", "max-file", "max-size"];
const jsonOptions = [...sizeOptions, "env", "env-regex", "labels", "labels-regex", "tag"];
/** Options of every driver; the cache options are for drivers without reading. */
const commonOptions = [
  "mode",
  "max-buffer-size",
  "cache-disabled",
  ...sizeOptions.map((name) => `cache-${name}`),
];

/** Rejects options that the log driver does not support; sizes are parsed at the start. @throws invalid */
export function validateLogOptions({ type, config }: LogConfig): void {
  if (type === "none") {
    return;
  }
  const mode = config["mode"] ?? "";
  if (!["", "blocking", "non-blocking"].includes(mode)) {
    throw invalid(`logger: logging mode not supported: ${mode}`);
  }
  const bufferSize = config["max-buffer-size"];
  if (bufferSize !== undefined) {
    if (mode !== "non-blocking") {
      throw invalid("logger: max-buffer-size option is only supported with 'mode=non-blocking'");
    }
    refuseUnless(parseBinarySize, bufferSize, (reason) => `error parsing option max-buffer-size: ${reason}`);
  }
  const cacheDisabled = config["cache-disabled"] ?? "";
  if (cacheDisabled !== "") {
    refuseUnless(
      parseBoolean,
      cacheDisabled,
      () => `invalid value for option cache-disabled: ${cacheDisabled}`,
    );
  }
  if (!logDrivers.some((driver) => driver === type)) {
    throw invalid(`logger: no log driver named '${type}' is registered`);
  }
  const known = new Set([...commonOptions, ...(type === "local" ? sizeOptions : jsonOptions)]);
  const unknown = Object.keys(config).find((option) => !known.has(option));
  if (unknown !== undefined) {
    const driver = type === "local" ? "log driver local" : `${type} log driver`;
    throw invalid(`unknown log opt '${unknown}' for ${driver}`);
  }
}

function refuseUnless(
  parse: (text: string) => unknown,
  value: string,
  message: (reason: string) => string,
): void {
  try {
    parse(value);
  } catch (error) {
    throw invalid(message((error as Error).message), error);
  }
}
