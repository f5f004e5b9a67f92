/** `sockerless debug`: a file for a report of a fault, without secrets. */
import { open, writeFile } from "node:fs/promises";
import { release } from "node:os";
import { buffer } from "node:stream/consumers";
import { createGzip } from "node:zlib";

import { pack } from "tar-stream";

import { camelCase, type Config } from "../common/config/load.ts";
import { settings } from "../common/config/settings.ts";
import { errnoOf, messageOf } from "../common/errors.ts";
import { maskSecrets } from "../common/mask-secrets.ts";
import { version } from "../common/version.ts";
import { readStatus } from "./status.ts";

/** Bytes of the log's end. */
const logBytes = 1024 * 1024;

/** A part of the file. */
interface Part {
  readonly name: string;
  readonly about: string;
  /** The part's text; a failure stands in its place. */
  read(): Promise<string>;
}

/**
 * Writes a gzipped tar file that only this user may read.
 *
 * @param file must not exist
 * @param host the Docker API's address, `unix:///path` or `tcp://host:port`
 * @returns lines for a terminal: what is in it
 * @throws Node's error if it cannot be written
 */
export async function writeDebugFile(
  file: string,
  config: Config,
  host: string,
  environment: NodeJS.ProcessEnv,
): Promise<readonly string[]> {
  const parts: readonly Part[] = [
    {
      name: "versions.json",
      about: "versions of sockerless, Node.js, its libraries and the kernel",
      read: async () =>
        asText({
          sockerless: version,
          node: process.versions,
          platform: process.platform,
          kernel: release(),
        }),
    },
    {
      name: "settings.json",
      about: "the configuration as it would be read now; of a secret only whether it is set",
      read: async () => asText(withoutSecrets(config)),
    },
    {
      name: "status.json",
      about: "what `sockerless status` tells: counts, processes, starts that wait, warnings",
      read: async () => asText(await readStatus(host, environment)),
    },
    {
      name: "log.txt",
      about: `the last ${logBytes / 1024 ** 2} MiB of ${config.logFile}, where the daemon runs in the background`,
      read: () => endOf(config.logFile),
    },
  ];
  const list = parts.map(({ name, about }) => `${name}: ${about}`);
  const archive = pack();
  const packed = buffer(archive.pipe(createGzip()));
  archive.entry({ name: "CONTENTS.txt", mode: 0o600 }, `${list.join("\n")}\n`);
  for (const { name, read } of parts) {
    const text = await read().catch((error: unknown) => `not there: ${messageOf(error)}\n`);
    archive.entry({ name, mode: 0o600 }, maskSecrets(text));
  }
  archive.finalize();
  await writeFile(file, await packed, { mode: 0o600, flag: "wx" });
  return [`${file}:`, ...list.map((line) => `  ${line}`)];
}

/** A configuration in which a secret is told as set or not. */
function withoutSecrets(config: Config): unknown {
  const secrets = new Set(settings.filter(({ secret }) => secret === true).map(({ key }) => camelCase(key)));
  return JSON.parse(
    JSON.stringify(config, (key, value: unknown) =>
      secrets.has(key) && value !== undefined ? "(set, not told)" : value,
    ),
  );
}

function asText(value: unknown): string {
  return `${JSON.stringify(value, undefined, 2)}\n`;
}

async function endOf(path: string): Promise<string> {
  try {
    await using file = await open(path);
    const { size } = await file.stat();
    const bytes = Buffer.alloc(Math.min(size, logBytes));
    const { bytesRead } = await file.read(bytes, 0, bytes.length, size - bytes.length);
    return bytes.toString("utf8", 0, bytesRead);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") {
      return "there is no log file: the daemon logs to standard error, or has never run in the background\n";
    }
    throw error;
  }
}
