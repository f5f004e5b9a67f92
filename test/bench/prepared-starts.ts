/**
 * Starts in prepared tasks, on simulated clouds that take 35 s for a task and really run it. The own time of a start is that of
 * its request (`POST /start`, in the frontend's trace) in which no call of the cloud and none of the agent is under way.
 */
import { poolOnAca, poolOnEcs } from "../prepared/pool-cloud.ts";
import { Collector, type ToldSpan } from "../support/collector.ts";
import { until } from "../support/until.ts";
import { ApiClient } from "./api-client.ts";
import type { CloudName } from "./clouds.ts";
import { processorMsOf } from "./memory.ts";

const cloudMs = 35_000;
/** Spans of our own: others are calls of the cloud (`ecs TagResource`) and of the agent. */
const ours = /^(POST |start: |sockerless\.backend\.)/;
/** Tasks that wait at a time. */
const waiting = 8;
const kinds = { ecs: poolOnEcs, aca: poolOnAca };

export const preparedHead = [
  "| cloud | starts | in prepared tasks | from `POST /start` to its answer: p50 | p95 | longest | own time of that: p50 | p95 | processor time of the daemon | without a prepared task |",
  "|---|---|---|---|---|---|---|---|---|---|",
];

/** A row of the table: so many starts, one after the other. */
export async function preparedRow(name: CloudName, count: number, interrupted: AbortSignal): Promise<string> {
  await using collector = await Collector.start();
  await using cloud = await kinds[name].open({
    cloudMs,
    args: ["--pool-mode=fixed", `--pool-images=busybox=${waiting}`],
    env: collector.environment,
  });
  const api = new ApiClient(cloud.daemon.socket, 1, interrupted);
  const create = async (body: object): Promise<string> =>
    (await api.json<{ Id: string }>("POST", "/containers/create", { Image: "busybox", ...body })).Id;
  const start = async (id: string): Promise<number> => {
    const before = performance.now();
    await api.call("POST", `/containers/${id}/start`);
    return performance.now() - before;
  };
  const isClaim = async (id: string): Promise<boolean> => {
    const { StartPhases } = await api.json<{ StartPhases: { Name: string }[] }>(
      "GET",
      `/containers/${id}/json`,
    );
    return StartPhases.some((phase) => phase.Name === "claim");
  };
  const other = await create({ Cmd: ["sleep", "600"], HostConfig: { NanoCpus: 5e8 } });
  const coldMs = await start(other);
  const taken: number[] = [];
  const own: number[] = [];
  let processorMs = 0;
  for (let begun = 0; begun < count; ) {
    await until(async () => {
      const { Labels } = await api.json<{ Labels: string[] }>("GET", "/info");
      return Labels.some((label) => label.includes(`fixed: ${waiting} of at most 10 wait;`)) || undefined;
    }, interrupted);
    const ids: string[] = [];
    for (let n = 0; n < waiting && begun < count; n++, begun++) {
      const id = await create({ Cmd: ["sleep", "600"] });
      const earlier = new Set(requestsOf(collector));
      const beforeMs = processorMsOf(cloud.daemon);
      const tookMs = await start(id);
      processorMs += processorMsOf(cloud.daemon) - beforeMs;
      ids.push(id);
      if (await isClaim(id)) {
        taken.push(tookMs);
        const request = await until(
          () => requestsOf(collector).find((span) => !earlier.has(span)),
          interrupted,
        );
        own.push(ownMsOf(request, collector.spans));
      }
    }
    for (const id of ids) {
      await api.call("DELETE", `/containers/${id}?force=1`);
    }
  }
  const cells = [name, count, taken.length, ...[0.5, 0.95, 1].map((share) => secondsAt(taken, share))];
  cells.push(
    ...[0.5, 0.95].map((share) => secondsAt(own, share)),
    inSeconds(processorMs / count),
    inSeconds(coldMs),
  );
  return `| ${cells.join(" | ")} |`;
}

/** Requests of clients for starts that are over, as their traces tell. */
function requestsOf({ spans }: Collector): readonly ToldSpan[] {
  return spans.filter(({ name }) => name.startsWith("POST ") && name.endsWith("/start"));
}

/** Milliseconds of a request in which none of the calls that are behind it, of the cloud and of the agent, is under way. */
function ownMsOf(request: ToldSpan, spans: readonly ToldSpan[]): number {
  const calls = spans.filter(({ traceId, name }) => traceId === request.traceId && !ours.test(name));
  let ownNs = 0n;
  let atNs = request.fromNs;
  for (const { fromNs, untilNs } of calls.toSorted((one, other) => Number(one.fromNs - other.fromNs))) {
    ownNs += fromNs > atNs ? fromNs - atNs : 0n;
    atNs = untilNs > atNs ? untilNs : atNs;
  }
  ownNs += request.untilNs > atNs ? request.untilNs - atNs : 0n;
  return Number(ownNs) / 1e6;
}

function secondsAt(times: readonly number[], share: number): string {
  const sorted = times.toSorted((one, other) => one - other);
  return inSeconds(sorted[Math.ceil(sorted.length * share) - 1] ?? Number.NaN);
}

function inSeconds(ms: number): string {
  return `${(ms / 1000).toFixed(2)} s`;
}
