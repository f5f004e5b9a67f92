/**
 * `npm run bench:cloud`: what starts of many containers ask of AWS, and what they cost here, before a simulated AWS whose
 * tasks do not really run; then how soon names are known, and tasks that run beside the local backend.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";

import { EcsDaemon } from "../support/ecs-daemon.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import { ManyAgents } from "../support/many-agents.ts";
import { npmScript, wholeNumber, wholeNumbers } from "../support/npm-script.ts";
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
/** Number of failed starts that are told, at most. */
const mostToldFailures = 10;
const rateNames = ["task-writes", "run-task", "fargate-launches", "task-reads", "task-definition-writes"];

const { tasks, defaultRates, others, changes, rounds, only } = npmScript(
  "bench:cloud",
  "Counts and times what many containers cost on a simulated AWS, and times tasks beside the local backend.",
)
  .option("--tasks <numbers>", "containers that are started at once", wholeNumbers, [1, 100, 1000, 10_000])
  .option("--default-rates", "AWS answers no more often than by its published rates", false)
  .option("--others <numbers>", "containers that are told a name", wholeNumbers, [1, 20])
  .option("--changes <number>", "of each kind, to names", wholeNumber, 20)
  .option(
    "--rounds <number>",
    "of each measure beside the local backend; 0: without that part",
    wholeNumber,
    5,
  )
  .option("--only <text>", "the measures of that part with this in their name", "")
  .parse()
  .opts<{
    tasks: number[];
    defaultRates: boolean;
    others: number[];
    changes: number;
    rounds: number;
    only: string;
  }>();

console.log(
  `${cpus().length} × ${cpus()[0]?.model}, Node ${process.version}, ${defaultRates ? "AWS's default rates" : "no rates"}\n`,
);
if (tasks.length > 0) {
  console.log(
    "| containers | all started after | that is, each | processor time of the daemon, each | AWS calls | memory of the daemon |",
  );
  console.log("|---|---|---|---|---|---|");
}
for (const each of tasks) {
  requireConnections(each + furtherConnections);
  await measure(each);
}
if (others.length > 0) {
  await measureNames(others, changes);
}
if (rounds > 0) {
  await compareWithLocal(rounds, only);
}

/** @param list with commas; may be empty */
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
