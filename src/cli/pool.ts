/** `sockerless pool`: the tasks that wait for containers, asked of the backend. */
import { readFile } from "node:fs/promises";
import { toJson } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { type Client, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";

import type { Config } from "../common/config/load.ts";
import { parseDuration } from "../common/config/units.ts";
import { errorKindHeader, fromUnknown, invalid, messageOf, systemError } from "../common/errors.ts";
import {
  type GetPoolResponse,
  GetPoolResponseSchema,
  SystemService,
} from "../gen/sockerless/backend/v1/system_pb.ts";
import { columns } from "./columns.ts";

/** Parts of the answer that are shown. */
export type PoolView = "list" | "forecast";

type Asked = Pick<Config, "backendAddress" | "tls">;

/** @throws not-implemented: the backend prepares no tasks; system: nothing answers there, or it is refused */
export async function readPool(config: Asked): Promise<GetPoolResponse> {
  return await ask(config, (system) => system.getPool({}));
}

/**
 * Stops all tasks that wait.
 *
 * @param rest time for which none are prepared, such as `10m`
 * @throws as {@link readPool}; invalid: no duration
 */
export async function drainPool(config: Asked, rest: string): Promise<string> {
  const restMs = parseDuration(rest);
  if (restMs === undefined) {
    throw invalid(`${rest} is no duration, such as 10m`);
  }
  const { stopped } = await ask(config, (system) => system.drainPool({ restMs: BigInt(restMs) }));
  return `${stopped} stopped; none is prepared for ${rest}`;
}

/** The answer in JSON, for programs. */
export function poolJson(pool: GetPoolResponse): string {
  return JSON.stringify(toJson(GetPoolResponseSchema, pool, { alwaysEmitImplicit: true }), undefined, 2);
}

/** Lines for a terminal. */
export function poolTable(pool: GetPoolResponse, view: PoolView, nowMs: number): string[] {
  return [...(view === "list" ? taskLines(pool, nowMs) : wantedLines(pool)), "", pool.summary];
}

function taskLines({ tasks, currency }: GetPoolResponse, nowMs: number): string[] {
  const rows = tasks.map(({ task, kind, ready, created, costPerHour }) => [
    task,
    kind === "" ? "(not wanted any more)" : kind,
    ready ? "ready" : "comes up",
    `${Math.round((nowMs - (created === undefined ? nowMs : timestampMs(created))) / 60_000)} min`,
    currency === "" ? "" : `${costPerHour.toFixed(4)} ${currency}`,
  ]);
  return columns(["TASK", "FOR", "STATE", "AGE", "PER HOUR"], rows);
}

function wantedLines({ wanted }: GetPoolResponse): string[] {
  const rows = wanted
    .filter(({ most, waiting }) => most > 0 || waiting > 0)
    .map(({ kind, least, most, waiting }) => [kind, ...[least, most, waiting].map(String)]);
  return columns(["FOR", "LEAST", "MOST", "WAIT"], rows);
}

async function ask<T>(
  { backendAddress, tls }: Asked,
  call: (system: Client<typeof SystemService>) => Promise<T>,
): Promise<T> {
  const isSocket = backendAddress.startsWith("unix://");
  const files = isSocket || tls === undefined ? [] : [tls.ca, tls.cert, tls.key];
  const [ca, cert, key] = await Promise.all(files.map((file) => readFile(file)));
  const transport = isSocket
    ? createConnectTransport({
        baseUrl: "http://backend",
        httpVersion: "1.1",
        nodeOptions: { socketPath: backendAddress.slice("unix://".length), agent: false },
      })
    : createConnectTransport({ baseUrl: backendAddress, httpVersion: "2", nodeOptions: { ca, cert, key } });
  try {
    return await call(createClient(SystemService, transport));
  } catch (error) {
    const isAnswer = error instanceof ConnectError && error.metadata.has(errorKindHeader);
    throw isAnswer
      ? fromUnknown(error)
      : systemError(`no backend answers at ${backendAddress}: ${messageOf(error)}`, error);
  }
}
