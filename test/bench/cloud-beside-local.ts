/** Real tasks of a simulated AWS whose own delays are 0, beside the local backend: what the way through a cloud costs. */
import { setTimeout as delay } from "node:timers/promises";

import { Daemon } from "../support/daemon.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import { until, untilTrue } from "../support/until.ts";
import { ApiClient } from "./api-client.ts";
import { ampleCpus, type CloudMeasure, cloudMeasures, type CloudTarget } from "./cloud-measures.ts";
import { figureOf, median, spread } from "./figures.ts";
import { createContainer, logBytes, logScript } from "./measures.ts";
import { processorMsOf } from "./memory.ts";

/**
 * Prints a table: medians, and how many times slower the cloud's is.
 *
 * @param only names of measures contain it
 */
export async function compareWithLocal(rounds: number, only: string): Promise<void> {
  await using resources = new AsyncDisposableStack();
  const local = resources.use(await Daemon.start());
  const { daemon: cloud } = resources.use(
    await EcsDaemon.start({
      aws: { quotas: { fargateVcpus: 64 } },
      ecs: { linger: "10m", log_drain_max: "128MiB" },
    }),
  );
  const targets = [await prepare(local), await prepare(cloud)] as const;
  console.log("\n| measure | local | ecs | times slower | bar | |\n|---|---|---|---|---|---|");
  for (const measure of cloudMeasures.filter(({ name }) => name.includes(only))) {
    const figures: [number[], number[]] = [[], []];
    for (const side of [0, 1] as const) {
      await measure.run(targets[side]); // Connections are made, and programs are in memory.
    }
    for (let round = 0; round < rounds; round++) {
      for (const side of round % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const)) {
        figures[side].push(await figureOf(measure, targets[side]));
      }
    }
    console.log(row(measure, figures));
  }
  for (const { api } of targets) {
    api.close();
  }
}

async function prepare(daemon: Daemon): Promise<CloudTarget> {
  await daemon.ok("load", "--input", await busyboxArchiveFile());
  const api = new ApiClient(daemon.socket);
  const network = "bridge";
  const started = async (config: Record<string, unknown>): Promise<string> => {
    const HostConfig = { NetworkMode: network, NanoCpus: ampleCpus };
    const id = await createContainer({ api, network }, { HostConfig, ...config });
    await api.call("POST", `/containers/${id}/start`);
    return id;
  };
  const container = await started({ Cmd: ["sleep", "3600"] });
  const echoing = await started({ Cmd: ["cat"], OpenStdin: true });
  const talked = await started({ Cmd: ["sh", "-c", "seq 100; sleep 3600"] });
  await until(async () => (await daemon.ok("logs", "--tail", "1", talked)) === "100" || undefined);
  const logged = await started({ Cmd: ["sh", "-c", logScript(logBytes)] });
  await api.call("POST", `/containers/${logged}/wait`);
  await untilTrue(() => isIdle(daemon)); // The log has been taken in, and what simulates the cloud has read it.
  return { api, network, container, logged, echoing, talked };
}

/** True if the daemon's processes and this one have next to nothing to do. */
async function isIdle(daemon: Daemon): Promise<boolean> {
  const usedMs = (): number => processorMsOf(daemon) + process.cpuUsage().user / 1000;
  const before = usedMs();
  await delay(1_000);
  return usedMs() - before < 100;
}

function row({ name, unit, most, mostMs }: CloudMeasure, figures: readonly [number[], number[]]): string {
  const [here, there] = figures.map(median) as [number, number];
  const slower = unit === "ms" ? there / here : here / there;
  const bar = mostMs !== undefined ? `≤ ${mostMs} ms` : most !== undefined ? `≤ ${most}` : "";
  const met = there <= (mostMs ?? Number.POSITIVE_INFINITY) && slower <= (most ?? Number.POSITIVE_INFINITY);
  const [local, ecs] = figures.map((each) => `${spread(each)} ${unit}`);
  return `| ${name} | ${local} | ${ecs} | ${slower.toFixed(2)} | ${bar} | ${met ? "" : "missed"} |`;
}
