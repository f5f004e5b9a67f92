/** Real tasks of a simulated AWS whose own delays are 0, beside the local backend: what the way through a cloud costs. */
import { Daemon } from "../support/daemon.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import { ApiClient } from "./api-client.ts";
import { createContainer, LOG_BYTES, logScript, measures, type Target } from "./measures.ts";

/** Measures whose containers are tasks, or whose bytes come from one. */
const compared = [
  "run",
  "attached run",
  "exec",
  "32 parallel execs",
  "exec stdout",
  "exec stdin",
  "archive put",
  "archive get",
  "logs read",
  "keystroke echo (p90)",
];

/** Prints a table: medians, and the cloud's as a multiple of the local one. */
export async function compareWithLocal(rounds: number): Promise<void> {
  await using resources = new AsyncDisposableStack();
  const local = resources.use(await Daemon.start());
  const { daemon: cloud } = resources.use(
    await EcsDaemon.start({
      aws: { quotas: { fargateVcpus: 64 } },
      ecs: { linger: "10m", log_drain_max: "128MiB" },
    }),
  );
  const targets = [await prepare(local), await prepare(cloud)] as const;
  console.log(`\n| measure (median of ${rounds}) | local | ecs | ecs ÷ local |\n|---|---|---|---|`);
  for (const measure of measures.filter(({ name }) => compared.includes(name))) {
    const figures: [number[], number[]] = [[], []];
    for (let round = 0; round < rounds; round++) {
      for (const side of round % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const)) {
        figures[side].push(await measure.run(targets[side]));
      }
    }
    const [here, there] = figures.map(median) as [number, number];
    const cells = [`${here.toFixed(1)} ${measure.unit}`, `${there.toFixed(1)} ${measure.unit}`];
    console.log(`| ${measure.name} | ${cells.join(" | ")} | ${(there / here).toFixed(2)} |`);
  }
  for (const { api } of targets) {
    api.close();
  }
}

async function prepare(daemon: Daemon): Promise<Target> {
  await daemon.ok("load", "--input", await busyboxArchiveFile());
  const api = new ApiClient(daemon.socket);
  const network = "bridge";
  const container = await createContainer({ api, network }, { Cmd: ["sleep", "3600"] });
  await api.call("POST", `/containers/${container}/start`);
  const logged = await createContainer({ api, network }, { Cmd: ["sh", "-c", logScript(LOG_BYTES)] });
  await api.call("POST", `/containers/${logged}/start`);
  await api.call("POST", `/containers/${logged}/wait`);
  return { api, network, container, logged };
}

function median(figures: readonly number[]): number {
  return figures.toSorted((a, b) => a - b)[Math.floor(figures.length / 2)] ?? Number.NaN;
}
