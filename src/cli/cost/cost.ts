/** `sockerless cost`: what containers cost that run now or ran since a time, asked of the Docker API. */
import { create } from "@bufbuild/protobuf";
import * as v from "valibot";

import { jobSizeOf } from "../../backends/aca/jobs/sizes.ts";
import { askedCpus } from "../../backends/cloud/ready-made/asked-cpus.ts";
import { taskSizeOf } from "../../backends/ecs/definitions/sizes.ts";
import { systemClock } from "../../common/clock.ts";
import type { Config } from "../../common/config/load.ts";
import { mustRead, object, timestamp, wholeNumber } from "../../common/documents.ts";
import { invalid, isErrorKind } from "../../common/errors.ts";
import { HostConfigSchema, type HostConfig } from "../../gen/sockerless/backend/v1/config_pb.ts";
import { columns } from "../columns.ts";
import { askDocker, askDockerText } from "../docker-api.ts";
import { pricesFor, type Prices } from "../../common/prices.ts";
import { type Cost, costsOf, type Period, type Size, total, type UsedContainer } from "./usage.ts";

const texts = v.record(v.string(), v.string());

const listSchema = v.array(object({ Id: v.string() }));
const inspectSchema = object({
  Id: v.string(),
  Name: v.string(),
  State: object({ Running: v.boolean(), StartedAt: timestamp }),
  Config: object({ Labels: v.nullish(texts) }),
  HostConfig: object({
    NanoCpus: wholeNumber,
    CpuQuota: wholeNumber,
    CpuPeriod: wholeNumber,
    CpuShares: wholeNumber,
    Memory: wholeNumber,
    StorageOpt: v.nullish(texts),
  }),
});
const dieSchema = object({
  Actor: object({ ID: v.string(), Attributes: texts }),
  timeNano: v.number(),
});

/** Attributes of an event that are no labels of the container. */
const ownAttributes: ReadonlySet<string> = new Set(["name", "image", "exitCode", "execDuration"]);

const gib = 1024 ** 3;

/** Costs of containers. */
export interface Costs {
  readonly prices: Prices;
  /** The period's begin, and when it was asked. */
  readonly from: string;
  readonly until: string;
  readonly costs: readonly Cost[];
  readonly total: Cost;
}

/** Options of the question. */
export interface CostRequest {
  /** File with prices. */
  readonly prices?: string;
  /** Label by whose values to sum. */
  readonly label?: string;
  /** ISO date or time; absent: the last midnight (UTC). */
  readonly since?: string;
  readonly environment: NodeJS.ProcessEnv;
}

/**
 * Asks the Docker API which containers run or have run, and prices them by the sizes of the configured backend.
 *
 * @param host `unix:///path` or `tcp://host:port`
 * @throws as {@link pricesFor}; invalid: no time; system: nothing answers there, or it is refused
 */
export async function readCosts(config: Config, host: string, request: CostRequest): Promise<Costs> {
  const { environment, label, since } = request;
  const prices = pricesFor(config, request.prices);
  const nowMs = systemClock.nowMs();
  const period = { fromMs: beginOf(since, nowMs), nowMs };
  const used = await usedContainers(config, host, environment, period);
  const costs = costsOf(used, prices, period, label);
  return {
    prices,
    from: new Date(period.fromMs).toISOString(),
    until: new Date(nowMs).toISOString(),
    costs,
    total: total("total", costs),
  };
}

function beginOf(since: string | undefined, nowMs: number): number {
  if (since === undefined) {
    return new Date(nowMs).setUTCHours(0, 0, 0, 0);
  }
  const begin = Date.parse(since);
  if (Number.isNaN(begin)) {
    throw invalid(`${since} is no ISO date or time`);
  }
  return begin;
}

/** Lines for a terminal. */
export function costTable({ prices, from, costs, total: all }: Costs): string[] {
  const money = (value: number, isLeast = false): string =>
    `${isLeast ? "≥ " : ""}${value.toFixed(4)} ${prices.currency}`;
  const rows = [...costs, all].map(({ name, containers, running, seconds, amount, perHour, isLeast }) => [
    name,
    String(containers),
    String(running),
    `${(seconds / 3600).toFixed(2)} h`,
    money(amount, isLeast),
    money(perHour),
  ]);
  const head = ["NAME", "CONTAINERS", "RUNNING", "TIME", "COST", "PER HOUR NOW"];
  return [
    ...columns(head, rows),
    "",
    `Since ${from}, at the prices of ${prices.date} for ${prices.of}: vCPUs and memory alone.`,
  ];
}

async function usedContainers(
  config: Config,
  host: string,
  environment: NodeJS.ProcessEnv,
  period: Period,
): Promise<readonly UsedContainer[]> {
  const seconds = (ms: number): string => (ms / 1000).toFixed(3);
  const filters = encodeURIComponent(JSON.stringify({ type: ["container"], event: ["die"] }));
  const [listed, died] = await Promise.all([
    askDocker(host, "/containers/json?all=1", environment),
    askDockerText(
      host,
      `/events?since=${seconds(period.fromMs)}&until=${seconds(period.nowMs)}&filters=${filters}`,
      environment,
    ),
  ]);
  const containers = new Map<string, UsedContainer>();
  for (const { Id } of mustRead(listSchema, listed)) {
    const inspected = await askDocker(host, `/containers/${Id}/json`, environment).catch((error: unknown) => {
      if (!isErrorKind(error, "not-found")) {
        throw error;
      }
    });
    if (inspected === undefined) {
      continue; // It has gone since it was listed.
    }
    const container = mustRead(inspectSchema, inspected);
    const { Running, StartedAt } = container.State;
    containers.set(Id, {
      id: Id,
      name: container.Name.replace(/^\//, ""),
      labels: container.Config.Labels ?? {},
      size: sizeOf(config, hostConfigOf(container.HostConfig)),
      isRemoved: false,
      runs: Running ? [{ fromMs: Date.parse(StartedAt), untilMs: undefined }] : [],
    });
  }
  for (const text of died.split("\n").filter((line) => line !== "")) {
    const { Actor, timeNano } = mustRead(dieSchema, JSON.parse(text));
    const { ID, Attributes } = Actor;
    const untilMs = timeNano / 1e6;
    const known = containers.get(ID) ?? {
      id: ID,
      name: Attributes["name"] ?? "",
      labels: Object.fromEntries(Object.entries(Attributes).filter(([key]) => !ownAttributes.has(key))),
      size: sizeOf(config, create(HostConfigSchema)),
      isRemoved: true,
      runs: [],
    };
    const fromMs = untilMs - Number(Attributes["execDuration"] ?? 0) * 1000;
    containers.set(ID, { ...known, runs: [...known.runs, { fromMs, untilMs }] });
  }
  return [...containers.values()].filter(({ runs }) => runs.length > 0);
}

function hostConfigOf(told: v.InferOutput<typeof inspectSchema>["HostConfig"]): HostConfig {
  return create(HostConfigSchema, {
    resources: {
      nanoCpus: BigInt(told.NanoCpus),
      cpuQuota: BigInt(told.CpuQuota),
      cpuPeriod: BigInt(told.CpuPeriod),
      cpuShares: BigInt(told.CpuShares),
      memory: BigInt(told.Memory),
    },
    storageOpt: told.StorageOpt ?? {},
  });
}

/** The size that the backend reserves for a container. */
function sizeOf(config: Config, hostConfig: HostConfig): Size {
  if (config.backend === "ecs") {
    const { cpu, memory } = taskSizeOf(hostConfig.resources);
    return { cpus: cpu / 1024, gib: memory / 1024 };
  }
  if (config.backend === "aca") {
    const { cpu, memory } = jobSizeOf(hostConfig, {
      cpu: Number(config.aca.defaultCpu),
      memory: config.aca.defaultMemory,
    });
    return { cpus: cpu, gib: memory };
  }
  return { cpus: askedCpus(hostConfig.resources), gib: Number(hostConfig.resources?.memory ?? 0n) / gib };
}
