import type { LogConfig } from "../../gen/sockerless/backend/v1/config_pb.ts";
import { parseBinarySize, parseBoolean, parseDecimalSize, parseInteger } from "../../common/go-values.ts";

/** An agent's settings for recording a container's output. */
export interface LogSettings {
  readonly disabled: boolean;
  /** Bytes per file; 0 for no limit. */
  readonly maxSize: bigint;
  readonly maxFiles: number;
  /** Bytes that may wait to be recorded, beyond which output is dropped; undefined: the process blocks instead. */
  readonly bufferSize?: bigint;
}

/** The `local` log driver's own defaults: 20 MiB per file, five files. */
const localDriverDefaults = { maxSize: 20n * 1024n * 1024n, maxFiles: 5 };
const defaultBufferSize = 1_000_000n;

/**
 * The settings of `--log-driver` json-file, local or none with their sizes.
 *
 * @throws Error in the words of moby's log drivers, for invalid values
 */
export function logSettings(config: LogConfig | undefined): LogSettings {
  const options = config?.config ?? {};
  if (config?.type === "none") {
    return { disabled: true, maxSize: 0n, maxFiles: 1 };
  }
  const { maxSize, maxFiles } = config?.type === "local" ? localFiles(options) : jsonFiles(options);
  return {
    disabled: false,
    ...inFewerFiles({ maxSize, maxFiles }),
    ...(options["mode"] === "non-blocking" && {
      bufferSize: parsed(options["max-buffer-size"], parseBinarySize) ?? defaultBufferSize,
    }),
  };
}

/** Maximum files of a log: each takes a descriptor while its container runs, and memory for each of its readers. */
const mostFiles = 100;
/** The largest size that an agent counts. */
const mostBytes = 2n ** 63n - 1n;

/** The same bytes altogether in as many files as there may be, which are larger: nobody but us sees them. */
function inFewerFiles({ maxSize, maxFiles }: Files): Files {
  if (maxFiles <= mostFiles || maxSize === 0n) {
    return { maxSize, maxFiles: Math.min(maxFiles, mostFiles) };
  }
  const larger = (maxSize * BigInt(maxFiles) + BigInt(mostFiles) - 1n) / BigInt(mostFiles);
  return { maxSize: larger < mostBytes ? larger : mostBytes, maxFiles: mostFiles };
}

type Options = Readonly<Record<string, string>>;
type Files = Pick<LogSettings, "maxSize" | "maxFiles">;

function jsonFiles(options: Options): Files {
  const maxSize = parsed(options["max-size"], parseDecimalSize);
  if (maxSize === 0n) {
    throw new Error("max-size must be a positive number");
  }
  const maxFiles = parsed(options["max-file"], parseInteger) ?? 1;
  if (maxFiles < 1) {
    throw new Error("max-file cannot be less than 1");
  }
  if (parsed(options["compress"], parseBoolean) === true && (maxFiles === 1 || maxSize === undefined)) {
    throw new Error("compress cannot be true when max-file is less than 2 or max-size is not set");
  }
  return { maxSize: maxSize ?? 0n, maxFiles };
}

function localFiles(options: Options): Files {
  const maxSize = parsed(options["max-size"], parseDecimalSize, "invalid value for max-size: ");
  const maxFiles =
    parsed(options["max-file"], parseInteger, "invalid value for max-file: ") ?? localDriverDefaults.maxFiles;
  const compress = parsed(options["compress"], parseBoolean, "error reading compress log option") ?? true;
  if (maxFiles < 0) {
    throw new Error("max file count cannot be less than 0");
  }
  if (compress && maxFiles <= 1) {
    throw new Error("compression cannot be enabled when max file count is 1");
  }
  return { maxSize: maxSize ?? localDriverDefaults.maxSize, maxFiles: Math.max(1, maxFiles) };
}

/** @param context prefix of the error message; includes the value if it ends in a colon */
function parsed<T>(text: string | undefined, parse: (text: string) => T, context = ""): T | undefined {
  if (text === undefined) {
    return undefined;
  }
  try {
    return parse(text);
  } catch (error) {
    if (context === "") {
      throw error;
    }
    throw new Error(`${context}${context.endsWith(": ") ? text : ""}: ${(error as Error).message}`, {
      cause: error,
    });
  }
}
