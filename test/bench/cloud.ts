/**
 * `npm run bench:cloud`: what starts of many containers ask of AWS and Azure, and what they cost here, before simulated
 * clouds whose tasks and jobs do not really run; then how soon names are known, the waiting that pools save on recorded days, and
 * tasks and jobs that run beside the local backend.
 */
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { cpus } from "node:os";

import { Option } from "commander";

import { npmScript, wholeNumber, wholeNumbers } from "../support/npm-script.ts";
import { ApiClient } from "./api-client.ts";
import { compareWithLocal } from "./cloud-beside-local.ts";
import { measureNames } from "./cloud-names.ts";
import { type CloudName, cloudNames, type LightCloud, openCloud } from "./clouds.ts";
import { untilInterrupted } from "./interruption.ts";
import { memoryOf, processorMsOf } from "./memory.ts";
import { type CurvePoint, curveHead, curveRow, poolCurve, type Team, teams } from "./pool-curve.ts";
import { curvePicture } from "./pool-picture.ts";
import { preparedHead, preparedRow } from "./prepared-starts.ts";

/**
 * Starts that are asked for at the same time: clients of one socket, whose queue is not endless. Agents that call are made
 * by this process, too, which must not come to a start's limit.
 */
const mostAtOnce = { ecs: 400, aca: 32 } as const satisfies Record<CloudName, number>;
/** Connections beside one to each container's agent: clients', AWS's, and those that starts make first. */
const furtherConnections = 2000;
/** Number of failed starts that are told, at most. */
const mostToldFailures = 10;
/** Agents that call have more connections, both ends of which this process and the daemon have. */
const mostJobs = 1000;

const { tasks, clouds, defaultRates, others, changes, rounds, only, pool, prepared, euros, picture } =
  npmScript(
    "bench:cloud",
    "Counts and times what many containers cost on simulated clouds, and times tasks and jobs beside the local backend.",
  )
    .option("--tasks <numbers>", "containers that are started at once", wholeNumbers, [1, 100, 1000, 10_000])
    .addOption(new Option("--clouds <names...>", "which").choices(cloudNames).default([...cloudNames]))
    .option("--default-rates", "the cloud answers no more often than by its published rates", false)
    .option("--others <numbers>", "containers that are told a name", wholeNumbers, [1, 20])
    .option("--changes <number>", "of each kind, to names", wholeNumber, 20)
    .option(
      "--rounds <number>",
      "of each measure beside the local backend; 0: without that part",
      wholeNumber,
      5,
    )
    .addOption(
      new Option("--pool <teams...>", "recorded days that pools of prepared tasks are tried on: minutes each")
        .choices(teams)
        .default([]),
    )
    .option(
      "--prepared <number>",
      "starts in prepared tasks, on clouds that take 35 s; 0: without that part",
      wholeNumber,
      0,
    )
    .option("--euros <amount>", "for a dollar", Number, 0.9)
    .option("--picture <file>", "SVG of what the pools save and cost")
    .option("--only <text>", "the measures of that part with this in their name", "")
    .parse()
    .opts<{
      tasks: number[];
      clouds: CloudName[];
      defaultRates: boolean;
      others: number[];
      changes: number;
      rounds: number;
      only: string;
      pool: Team[];
      prepared: number;
      euros: number;
      picture?: string;
    }>();

console.log(
  `${cpus().length} × ${cpus()[0]?.model}, Node ${process.version}, ${defaultRates ? "the clouds' default rates" : "no rates"}\n`,
);
await untilInterrupted(async (resources, interrupted) => {
  for (const cloud of tasks.length > 0 ? clouds : []) {
    console.log(
      `\n| containers on ${cloud} | all started after | that is, each | processor time of the daemon, each | calls | memory of the daemon |`,
    );
    console.log("|---|---|---|---|---|---|");
    for (const each of tasks.filter((count) => cloud === "ecs" || count <= mostJobs)) {
      requireConnections(each + furtherConnections);
      await measure(cloud, each, interrupted);
    }
  }
  if (others.length > 0 && clouds.includes("ecs")) {
    await measureNames(others, changes, interrupted);
  }
  if (pool.length > 0) {
    await measurePools(interrupted);
  }
  if (prepared > 0) {
    console.log(["", ...preparedHead].join("\n"));
    for (const cloud of clouds) {
      console.log(await preparedRow(cloud, prepared, interrupted));
    }
  }
  if (rounds > 0) {
    await compareWithLocal(clouds, { rounds, only, resources, interrupted });
  }
});

/** The table of pools, and their picture where one is asked for. */
async function measurePools(interrupted: AbortSignal): Promise<void> {
  console.log(["", ...curveHead].join("\n"));
  const points: CurvePoint[] = [];
  for (const team of pool) {
    for await (const point of poolCurve(team)) {
      interrupted.throwIfAborted();
      points.push(point);
      console.log(curveRow(point, euros));
    }
  }
  if (picture !== undefined) {
    await writeFile(picture, curvePicture(points, euros));
  }
}

async function measure(name: CloudName, count: number, interrupted: AbortSignal): Promise<void> {
  await using cloud = await openCloud(name, count, defaultRates);
  try {
    console.log(await measured(cloud, mostAtOnce[name], count, interrupted));
  } finally {
    await cloud.daemon.shutDown(); // Nothing really runs: removing thousands of containers would only take its time.
  }
}

/** A row of the table. @throws some starts have failed */
async function measured(
  { daemon, rates, calls: log }: LightCloud,
  atOnce: number,
  count: number,
  interrupted: AbortSignal,
): Promise<string> {
  const api = new ApiClient(daemon.socket, atOnce, interrupted);
  const create = async (n: number): Promise<string> => {
    const body = { Image: "busybox", Cmd: ["sleep", String(n)] };
    return (await api.json<{ Id: string }>("POST", "/containers/create", body)).Id;
  };
  const start = (id: string): Promise<Buffer> => api.call("POST", `/containers/${id}/start`);
  await start(await create(0)); // The first makes what is made once, and connections.
  const idle = memoryOf(daemon);
  const ids: string[] = [];
  while (ids.length < count) {
    const batch = Array.from({ length: Math.min(16, count - ids.length) }, (_, n) => create(ids.length + n));
    ids.push(...(await Promise.all(batch)));
  }
  rates.enabled = defaultRates;
  log.clear();
  const processorMs = processorMsOf(daemon);
  const before = performance.now();
  const settled = Promise.allSettled(ids.map(start));
  await Promise.race([settled, once(interrupted, "abort")]);
  interrupted.throwIfAborted();
  const starts = await settled;
  const tookMs = performance.now() - before;
  rates.enabled = false;
  const failures = starts.flatMap((result) => (result.status === "rejected" ? [String(result.reason)] : []));
  if (failures.length > 0) {
    const told = failures.slice(0, mostToldFailures).join("\n");
    throw new Error(`${failures.length} of ${count} starts failed:\n${told}`);
  }
  const calls = Object.entries(log.counts()).map(([call, times]) => `${times} ${call}`);
  const cells = [
    String(count),
    `${(tookMs / 1000).toFixed(1)} s`,
    `${(tookMs / count).toFixed(1)} ms`,
    `${((processorMsOf(daemon) - processorMs) / count).toFixed(1)} ms`,
    calls.join(", "),
    `${Math.round(idle)} → ${Math.round(memoryOf(daemon))} MB`,
  ];
  return `| ${cells.join(" | ")} |`;
}

/** The backend has a connection to each agent, and this process the other end. @throws the limit is too low */
function requireConnections(count: number): void {
  const { userLimits } = process.report.getReport() as {
    userLimits: { open_files: { soft: string | number } };
  };
  const { soft } = userLimits.open_files; // Node has raised it as far as it may be.
  if (Number(soft) < count) {
    throw new Error(`so many containers need ${count} open files, and a process may have ${soft}: ulimit -n`);
  }
}
