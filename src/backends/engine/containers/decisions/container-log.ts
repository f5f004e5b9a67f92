/** A container's log configuration: its validation at a start, and the details of `docker logs --details`. */
import { systemError } from "../../../../common/errors.ts";
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import { logSettings } from "../../../logging/log-settings.ts";
import { renderLogTag, type TagFields } from "../../../logging/log-tag.ts";
import { compileExpression } from "../../../model/re2.ts";
import { configOf, hostConfigOf } from "../../../model/records.ts";

const shortIdLength = 12;

/** Refuses a start whose log options are invalid. @throws system, in dockerd's words */
export function requireLog(record: ContainerRecord): void {
  try {
    logSettings(hostConfigOf(record).logConfig);
    logDetails(record);
  } catch (error) {
    const reason = `failed to initialize logging driver: ${(error as Error).message}`;
    throw systemError(`failed to create task for container: ${reason}`, error);
  }
}

/**
 * The labels and variables that the log options `labels` and `env` (and their `-regex`) name, and the tag.
 *
 * @throws Error in Go's words: an invalid expression or template
 */
export function logDetails(record: ContainerRecord): Record<string, string> {
  const logConfig = hostConfigOf(record).logConfig;
  if (logConfig === undefined || logConfig.type !== "json-file") {
    return {}; // The `local` driver stores no details.
  }
  const options = logConfig.config;
  const { labels, env } = configOf(record);
  const pairs = Object.fromEntries(
    env.filter((entry) => entry.includes("=")).map((entry) => splitEntry(entry)),
  );
  const tag = renderLogTag(options["tag"] ?? "", tagFields(record));
  return {
    ...chosen(labels, options["labels"], options["labels-regex"]),
    // Without variables dockerd ignores the expression.
    ...(Object.keys(pairs).length > 0 && chosen(pairs, options["env"], options["env-regex"])),
    ...(tag !== "" && { tag }),
  };
}

function tagFields(record: ContainerRecord): TagFields {
  const imageName = configOf(record).image;
  return {
    ID: record.id.slice(0, shortIdLength),
    FullID: record.id,
    ContainerID: record.id,
    Name: record.name,
    ContainerName: `/${record.name}`,
    ImageID: record.imageId.slice(0, shortIdLength),
    ImageFullID: record.imageId,
    ContainerImageID: record.imageId,
    ImageName: imageName,
    ContainerImageName: imageName,
    Command: [record.path, ...record.args].join(" "),
    ContainerEntrypoint: record.path,
    ContainerArgs: record.args,
    ContainerEnv: configOf(record).env,
    DaemonName: "docker",
  };
}

function chosen(
  pairs: Readonly<Record<string, string>>,
  names: string | undefined,
  pattern: string | undefined,
): Record<string, string> {
  const wanted = new Set(names?.split(","));
  const expression = pattern === undefined || pattern === "" ? undefined : compileExpression(pattern);
  return Object.fromEntries(
    Object.entries(pairs).filter(([name]) => wanted.has(name) || expression?.test(name)),
  );
}

function splitEntry(entry: string): [string, string] {
  const equals = entry.indexOf("=");
  return [entry.slice(0, equals), entry.slice(equals + 1)];
}
