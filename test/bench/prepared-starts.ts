/** Starts in prepared tasks, on simulated clouds that take 35 s for a task and really run it. */
import { poolOnAca, poolOnEcs } from "../prepared/pool-cloud.ts";
import { until } from "../support/until.ts";
import { ApiClient } from "./api-client.ts";
import type { CloudName } from "./clouds.ts";

const cloudMs = 35_000;
/** Tasks that wait at a time. */
const waiting = 8;
const kinds = { ecs: poolOnEcs, aca: poolOnAca };

export const preparedHead = [
  "| cloud | starts | in prepared tasks | from `POST /start` to its answer: p50 | p95 | longest | without a prepared task |",
  "|---|---|---|---|---|---|---|",
];

/** A row of the table: so many starts, one after the other. */
export async function preparedRow(name: CloudName, count: number, interrupted: AbortSignal): Promise<string> {
  await using cloud = await kinds[name].open({
    cloudMs,
    args: ["--pool-mode=fixed", `--pool-images=busybox=${waiting}`],
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
  for (let begun = 0; begun < count; ) {
    await until(async () => {
      const { Labels } = await api.json<{ Labels: string[] }>("GET", "/info");
      return Labels.some((label) => label.includes(`fixed: ${waiting} of at most 10 wait;`)) || undefined;
    }, interrupted);
    const ids: string[] = [];
    for (let n = 0; n < waiting && begun < count; n++, begun++) {
      const id = await create({ Cmd: ["sleep", "600"] });
      const tookMs = await start(id);
      ids.push(id);
      if (await isClaim(id)) {
        taken.push(tookMs);
      }
    }
    for (const id of ids) {
      await api.call("DELETE", `/containers/${id}?force=1`);
    }
  }
  taken.sort((one, other) => one - other);
  const seconds = (ms: number): string => `${(ms / 1000).toFixed(2)} s`;
  const at = (share: number): string => seconds(taken[Math.ceil(taken.length * share) - 1] ?? Number.NaN);
  const cells = [name, count, taken.length, at(0.5), at(0.95), at(1), seconds(coldMs)];
  return `| ${cells.join(" | ")} |`;
}
