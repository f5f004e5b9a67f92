/**
 * The log of a container in Log Analytics, for when neither its agent nor a copied log exists. Lines arrive there after
 * half a minute to two minutes, and some never do: a log whose end is missing gets a message about that.
 */
import * as v from "valibot";

import type { Clock } from "../../../common/clock.ts";
import { object, read } from "../../../common/documents.ts";
import { systemError } from "../../../common/errors.ts";
import { Stream } from "../../../gen/sockerless/agent/v1/agent_pb.ts";
import { Limiter } from "../../concurrency/limiter.ts";
import { agentLine } from "../../cloud/stored/markers.ts";
import { type CloudLog, LinesLate } from "../../cloud/contract/cloud-log.ts";
import { type LogPage, type LogStreams, mostReaders, streamLog } from "../../cloud/stored/stream-log.ts";
import type { AzureClients } from "../arm/clients.ts";
import { isAzureError } from "../arm/errors.ts";
import { columns, outputQuery, type OutputQuery } from "./kql.ts";

/** Settings and dependencies of {@link logAnalyticsLog}. */
export interface LogAnalyticsOptions extends Pick<LogStreams<Cursor>, "streamsOf"> {
  readonly azure: Pick<AzureClients, "call" | "request">;
  /** Default: Azure's own. */
  readonly endpoint: string | undefined;
  /** ID of the workspace; undefined if there is none, and thus no log. */
  readonly workspaceId: string | undefined;
  /** The name of the container whose output is the log. */
  readonly container: string;
  readonly clock: Clock;
}

const defaultEndpoint = "https://api.loganalytics.io";
/** Audience of tokens: Azure's own, whatever the configured address. */
const scope = `${defaultEndpoint}/.default`;
/** Rows of a page: a container's line has at most 16 KiB, an answer 64 MB. */
const pageRows = { least: 200, most: 2_000 };
/** Approximate size of a page in bytes, by the rows of the one before. */
const pageBytes = 4 * 1024 * 1024;
const nsPerUs = 1_000n;
const usPerSecond = 1e6;
/** Maximum delay of lines; later ones will never arrive. */
const latestMs = 150_000;
/** Prefix of the agent's last line of a run. */
const endOfRun = "exit generation=";

/** Message in a log whose end is missing. */
const incomplete =
  "[sockerless] the end of this log has not come to Log Analytics: lines come there late, and some never do";

const answerSchema = object({
  tables: v.array(
    object({
      name: v.string(),
      columns: v.array(object({ name: v.string() })),
      rows: v.array(v.array(v.unknown())),
    }),
  ),
  error: v.optional(object({ code: v.optional(v.string()), message: v.optional(v.string()) })),
});

/** A part of an execution's rows. */
type Cursor = Pick<OutputQuery, "bound" | "most">;

interface Row {
  /** Seconds since 1970. */
  readonly time: number;
  readonly line: string;
}

/** The log of a backend's containers. Reading throws AzureError; system: a malformed or partial answer. */
export function logAnalyticsLog(options: LogAnalyticsOptions): CloudLog {
  if (options.workspaceId === undefined) {
    return { isKept: false, lines: nothing, agentLines: nothing };
  }
  const query = outputReader(options);
  const turns = new Limiter(mostReaders);
  const log = streamLog<Cursor>(
    {
      streamsOf: options.streamsOf,
      page: ({ stream, backward, fromNs, cursor }, signal) => {
        const time = fromNs === undefined ? undefined : Number(fromNs / nsPerUs) / usPerSecond;
        const bound = time === undefined ? undefined : { time, inclusive: true };
        const first = { bound, most: pageRows.least };
        return readPage(
          query,
          { execution: stream, order: backward ? "desc" : "asc", ...(cursor ?? first) },
          signal,
        );
      },
    },
    turns,
  );
  /** Unix milliseconds of the first look for a run's missing end, by execution. */
  const missedSinceMs = new Map<string, number>();
  return {
    isKept: true,
    async *agentLines(containerId, signal) {
      const execution = options.streamsOf(containerId).at(-1) ?? "";
      for await (const line of log.agentLines(containerId, signal)) {
        if (line.startsWith(endOfRun)) {
          missedSinceMs.delete(execution);
        }
        yield line;
      }
      const nowMs = options.clock.nowMs();
      const sinceMs = missedSinceMs.get(execution) ?? nowMs;
      missedSinceMs.set(execution, sinceMs);
      if (execution !== "" && nowMs - sinceMs < latestMs) {
        throw new LinesLate(`the end of ${execution} may still come to Log Analytics`);
      }
    },
    async *lines(containerId, range, signal) {
      let timeNs = 0n;
      for await (const piece of log.lines(containerId, range, signal)) {
        ({ timeNs } = piece);
        yield piece;
      }
      const last = options.streamsOf(containerId).at(-1);
      if (
        last !== undefined &&
        range.beforeLastTask !== true &&
        !(await hasEnd(query, turns, last, signal))
      ) {
        const data = Buffer.from(`${incomplete}\n`);
        yield { stream: Stream.STDERR, timeNs, data, begins: true, ends: true };
      }
    },
  };
}

/** Whether the end of an execution's run is among its last lines. */
async function hasEnd(
  query: Reader,
  turns: Limiter,
  execution: string,
  signal: AbortSignal,
): Promise<boolean> {
  using _turn = await turns.acquire("", signal);
  const rows = await query({ execution, order: "desc", bound: undefined, most: pageRows.least }, signal);
  return rows.some(({ line }) => agentLine(line)?.startsWith(endOfRun) === true);
}

/** Queries a page. */
type Reader = (asked: Omit<OutputQuery, "container">, signal: AbortSignal) => Promise<readonly Row[]>;

function outputReader({ azure, endpoint, workspaceId = "", container }: LogAnalyticsOptions): Reader {
  const url = `${endpoint ?? defaultEndpoint}/v1/workspaces/${encodeURIComponent(workspaceId)}/query`;
  return async (asked, signal) => {
    const query = outputQuery({ ...asked, container });
    try {
      const answer = await azure.call(
        "Query_Execute",
        (options) => azure.request({ method: "POST", url, scope, body: { query } }, options),
        signal,
      );
      return rowsOfAnswer(answer.body);
    } catch (error) {
      if (isWithoutTable(error)) {
        return [];
      }
      throw error;
    }
  };
}

/**
 * Reads a page. As rows with equal times have no order, those of its last time are queried again with the next one; a page
 * of one time alone is as large as possible.
 */
async function readPage(
  query: Reader,
  asked: Omit<OutputQuery, "container">,
  signal: AbortSignal,
): Promise<LogPage<Cursor>> {
  const rows = await query(asked, signal);
  const end = rows.at(-1)?.time;
  const isOneTime = rows[0]?.time === end;
  const isLast = rows.length < asked.most || end === undefined;
  if (isOneTime && !isLast && asked.most < pageRows.most) {
    return await readPage(query, { ...asked, most: pageRows.most }, signal);
  }
  const whole = isLast || isOneTime ? rows : rows.filter(({ time }) => time !== end);
  const rowBytes = rows.reduce((sum, { line }) => sum + line.length, 1) / rows.length;
  const most = Math.min(pageRows.most, Math.max(pageRows.least, Math.floor(pageBytes / rowBytes)));
  return {
    events: whole.map(({ time, line }) => ({
      message: line,
      timeNs: BigInt(Math.round(time * usPerSecond)) * nsPerUs,
    })),
    next: isLast ? undefined : { bound: { time: end, inclusive: !isOneTime }, most },
  };
}

/** Reads columns by name, as their order is not guaranteed. */
function rowsOfAnswer(body: unknown): Row[] {
  const { value: answer } = read(answerSchema, body);
  const table = answer?.tables.find(({ name }) => name === "PrimaryResult") ?? answer?.tables[0];
  const names = table?.columns.map(({ name }) => name) ?? [];
  const [time, line] = [names.indexOf(columns.time), names.indexOf(columns.line)];
  if (table === undefined || time === -1 || line === -1) {
    throw systemError("Log Analytics has answered a query with something else than its columns");
  }
  if (answer?.error !== undefined) {
    const { code = "", message = "" } = answer.error;
    throw systemError(`Log Analytics has returned only a part of a log: ${message} (${code})`);
  }
  return table.rows.map((row) => ({ time: Number(row[time]), line: String(row[line] ?? "") }));
}

/**
 * A workspace has the table and its columns only once the first line has arrived; until then querying them is an error.
 */
function isWithoutTable(error: unknown): boolean {
  return isAzureError(error, "BadArgumentError");
}

async function* nothing(): AsyncGenerator<never> {}
