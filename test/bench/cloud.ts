/**
 * `npm run bench:cloud`: what starts of many containers ask of AWS, and what they cost here, before a simulated AWS whose
 * tasks do not really run; then how soon names are known, and tasks that run beside the local backend. `--tasks
 * 1,100,1000,10000`, `--default-rates` (AWS's published ones; else none), `--others 1,20` (containers that are told a name)
 * and `--changes 20` (of each kind), `--rounds 5` (0: without the last part), `--only TEXT` (measures of that part).
 */
import { mkdtemp, rm } from "node:fs/promises";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { EcsDaemon } from "../support/ecs-daemon.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import { ManyAgents } from "../support/many-agents.ts";
import { ApiClient } from "./api-client.ts";
import { compareWithLocal } from "./cloud-beside-local.ts";
import { measureNames } from "./cloud-names.ts";
import { memoryOf, processorMsOf } from "./memory.ts";

/** So high that no bucket is ever empty. */
const unlimited = "1000000/1000000";
/** Starts that are asked for at the same time: clients of one socket, whose queue is not endless. */
const mostAtOnce = 400;
/** Connections beside one to each container's agent: clients', AWS's, and those that starts make first. */
const furtherConnections = 2000;
/** Of failed starts. */
const mostToldFailures = 10;
const rateNames = ["task-writes", "run-task", "fargate-launches", "task-reads", "task-definition-writes"];

const { values: options } = parseArgs({
  options: {
    tasks: { type: "string", default: "1,100,1000,10000" },
    "default-rates": { type: "boolean", default: false },
    others: { type: "string", default: "1,20" },
    changes: { type: "string", default: "20" },
    rounds: { type: "string", default: "5" },
    only: { type: "string", default: "" },
  },
});
const defaultRates = options["default-rates"];

console.log(
  `${cpus().length} × ${cpus()[0]?.model}, Node ${process.version}, ${defaultRates ? "AWS's default rates" : "no rates"}\n`,
);
const counts = numbersOf(options.tasks);
if (counts.length > 0) {
  console.log(
    "| containers | all started after | that is, each | processor time of the daemon, each | AWS calls | memory of the daemon |",
  );
  console.log("|---|---|---|---|---|---|");
}
for (const count of counts) {
  requireConnections(count + furtherConnections);
  await measure(count);
}
const others = numbersOf(options.others);
if (others.length > 0) {
  await measureNames(others, Number(options.changes));
}
if (Number(options.rounds) > 0) {
  await compareWithLocal(Number(options.rounds), options.only);
}

/** @param list with commas; may be empty */
function numbersOf(list: string): number[] {
  return list.split(",").filter(Boolean).map(Number);
}

async function measure(count: number): Promise<void> {
  await using resources = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), "skl-bench-"));
  resources.defer(() => rm(directory, { recursive: true }));
  const agents = resources.use(await ManyAgents.listen(directory));
  const { aws, daemon } = resources.use(
    await EcsDaemon.start({
      aws: {
        lightweight: true,
        quotas: { fargateVcpus: count + 1, networkInterfaces: 2 * count + 2 },
        ecs: { onTask: () => agents.address },
      },
      ecs: {
        linger: "0",
        ...(!defaultRates && { api_rates: rateNames.map((name) => `${name}=${unlimited}`) }),
      },
    }),
  );
  await daemon.ok("load", "--input", await busyboxArchiveFile());
  const api = new ApiClient(daemon.socket, mostAtOnce);
  const create = async (n: number): Promise<string> => {
    const body = { Image: "busybox", Cmd: ["sleep", String(n)] };
    return (await api.json<{ Id: string }>("POST", "/containers/create", body)).Id;
  };
  const start = (id: string): Promise<Buffer> => api.call("POST", `/containers/${id}/start`);
  await start(await create(0)); // The definition is registered once, and connections are made.
  const idle = memoryOf(daemon);
  const ids: string[] = [];
  while (ids.length < count) {
    const batch = Array.from({ length: Math.min(16, count - ids.length) }, (_, n) => create(ids.length + n));
    ids.push(...(await Promise.all(batch)));
  }
  aws.rates.enabled = defaultRates;
  aws.calls.clear();
  const processorMs = processorMsOf(daemon);
  const before = performance.now();
  const starts = await Promise.allSettled(ids.map(start));
  const tookMs = performance.now() - before;
  aws.rates.enabled = false;
  const calls = Object.entries(aws.calls.counts()).map(([name, times]) => `${times} ${name}`);
  const cells = [
    String(count),
    `${(tookMs / 1000).toFixed(1)} s`,
    `${(tookMs / count).toFixed(1)} ms`,
    `${((processorMsOf(daemon) - processorMs) / count).toFixed(1)} ms`,
    calls.join(", "),
    `${Math.round(idle)} → ${Math.round(memoryOf(daemon))} MB`,
  ];
  console.log(`| ${cells.join(" | ")} |`);
  await daemon.shutDown(); // Nothing really runs: removing thousands of containers would only take its time.
  const failures = starts.flatMap((result) => (result.status === "rejected" ? [String(result.reason)] : []));
  if (failures.length > 0) {
    const told = failures.slice(0, mostToldFailures).join("\n");
    throw new Error(`${failures.length} of ${count} starts failed:\n${told}`);
  }
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
