/** Answers as they are compared, without what differs from daemon to daemon and from run to run. */
import { readFile } from "node:fs/promises";
import { request } from "node:http";
import type { Call } from "./calls.ts";

/** An answer as it is compared. */
export interface Observation {
  readonly status: number;
  readonly contentType: string;
  /** `name: value` of the headers that clients go by; of values that no two daemons share, the name alone. */
  readonly headers: readonly string[];
  /** Text of an error, IDs and paths replaced. */
  readonly message: string;
  /** `path: type` for each value of a JSON body; arrays by their first element. */
  readonly shape: readonly string[];
  /** ID of what was made: the `Id` of the answer. */
  readonly id: string | undefined;
}

/** The headers beside the content type that clients go by, and whether their values are the same everywhere. */
const comparedHeaders = {
  "docker-experimental": true,
  ostype: true,
  "cache-control": true,
  pragma: true,
  location: true,
  "api-version": false,
  "builder-version": false,
  "x-docker-container-path-stat": false,
} as const;

/** Reads from a disk, which depend on what else the machine has read. */
const readFromDisk = /^\.blkio_stats\.\w+\[\]/;

const limitMs = 120_000;

/**
 * Sends a call and reads its answer; rejects when that takes beyond all measure.
 *
 * @param version of the API: `v1.41`
 * @param id what stands for `{id}` in the call's path
 */
export async function observe(
  socketPath: string,
  call: Call,
  version: string,
  id = "",
): Promise<Observation> {
  const { promise, resolve, reject } = Promise.withResolvers<Observation>();
  const body = await bodyOf(call);
  const outgoing = request(
    {
      socketPath,
      method: call.method,
      path: `/${version}${call.path.replace("{id}", id)}`,
      signal: AbortSignal.timeout(limitMs),
      headers: {
        "Content-Length": Buffer.byteLength(body ?? ""),
        ...(body === undefined ? {} : { "Content-Type": call.contentType ?? typeOf(call) }),
      },
    },
    (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.once("error", reject);
      response.once("end", () => {
        const text = Buffer.concat(chunks).toString();
        const contentType = response.headers["content-type"] ?? "";
        const status = response.statusCode ?? 0;
        const json = contentType.startsWith("application/json") ? parse(text) : undefined;
        const isExact = call.isExact === true && status < 400;
        resolve({
          status,
          contentType,
          headers: Object.entries(comparedHeaders).flatMap(([name, hasOneValue]) => {
            const value = response.headers[name];
            return value === undefined ? [] : [hasOneValue ? `${name}: ${String(value)}` : name];
          }),
          message: status >= 400 ? neutral((json as { message?: string } | undefined)?.message ?? text) : "",
          shape: isExact
            ? [`body: ${JSON.stringify(text)}`]
            : call.isOpaque === true || json === undefined
              ? []
              : shapeOf(json).filter((line) => !readFromDisk.test(line)),
          id: (json as { Id?: string } | null | undefined)?.Id,
        });
      });
    },
  );
  outgoing.once("error", reject);
  outgoing.end(body);
  return await promise;
}

async function bodyOf({ body, file }: Call): Promise<string | Buffer | undefined> {
  if (file !== undefined) {
    return await readFile(await file());
  }
  return typeof body === "string" || body === undefined ? body : JSON.stringify(body);
}

function typeOf(call: Call): string {
  return call.path.includes("/archive") || /^\/images\/(load|create\?fromSrc)/.test(call.path)
    ? "application/x-tar"
    : "application/json";
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return parseLast(text);
  }
}

/** The last of a stream of objects, which tells how it went. */
function parseLast(text: string): unknown {
  try {
    return JSON.parse(text.trimEnd().split("\n").at(-1) ?? "");
  } catch {
    return undefined; // an array that goes on, say
  }
}

/** Replaces what no two daemons share. */
function neutral(message: string): string {
  return message
    .trim()
    .replaceAll(/\b[0-9a-f]{64}\b/g, "<id>")
    .replaceAll(/\b[0-9a-f]{12}\b/g, "<id>")
    .replace(/to [0-9.]+, as there are only [0-9]+ CPUs/, "to <n>, as there are only <n> CPUs")
    .replaceAll(/\/tmp\/(skl|dockerd)-[^/\s]+/g, "<directory>");
}

function shapeOf(value: unknown, path = ""): string[] {
  if (Array.isArray(value)) {
    return [`${path}: array`, ...(value.length > 0 ? shapeOf(value[0], `${path}[]`) : [])];
  }
  if (value !== null && typeof value === "object") {
    return [
      `${path}: object`,
      ...Object.entries(value).flatMap(([key, inner]) =>
        shapeOf(inner, `${path}.${/^[0-9a-f]{64}$/.test(key) ? "<id>" : key}`),
      ),
    ];
  }
  return [`${path}: ${value === null ? "null" : typeof value}`];
}
