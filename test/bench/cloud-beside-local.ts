/** Real tasks and jobs of simulated clouds whose own delays are 0, beside the local backend: what the way through a cloud costs. */
import { setTimeout as delay } from "node:timers/promises";

import { AcaDaemon } from "../support/aca-daemon.ts";
import { Daemon } from "../support/daemon.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import { untilTrue } from "../support/until.ts";
import { ApiClient } from "./api-client.ts";
import {
  ampleCpus,
  type CloudMeasure,
  cloudMeasures,
  type CloudTarget,
  peerFileBytes,
  wholeLog,
} from "./cloud-measures.ts";
import type { CloudName } from "./clouds.ts";
import { figureOf, median, spread } from "./figures.ts";
import { createContainer, logBytes, logScript } from "./measures.ts";
import { MeasuringClient } from "./measuring-client.ts";
import { processorMsOf } from "./memory.ts";

/** How it is compared. */
export interface ComparisonOptions {
  readonly rounds: number;
  /** Names of measures contain it. */
  readonly only: string;
  /** They end what is started. */
  readonly resources: AsyncDisposableStack;
  /** Ends the comparison. */
  readonly interrupted: AbortSignal;
}

/** Prints a table: medians, and how many times slower the clouds' are. */
export async function compareWithLocal(
  clouds: readonly CloudName[],
  { rounds, only, resources, interrupted }: ComparisonOptions,
): Promise<void> {
  const targets: CloudTarget[] = [];
  for (const start of [startLocal, ...clouds.map((cloud) => starters[cloud])]) {
    interrupted.throwIfAborted();
    const { daemon } = resources.use(await start());
    const client = resources.use(await MeasuringClient.start(daemon.socket, interrupted));
    targets.push(await prepare(daemon, client, interrupted));
  }
  const columns = ["measure", "local", ...clouds.flatMap((cloud) => [cloud, "times slower"]), "bar", ""];
  console.log(`\n| ${columns.join(" | ")} |\n|${"---|".repeat(columns.length)}`);
  for (const measure of cloudMeasures.filter(({ name }) => name.includes(only))) {
    const figures = targets.map((): number[] => []);
    for (const target of targets) {
      await measure.run(target); // Connections are made, and programs are in memory.
    }
    for (let round = 0; round < rounds; round++) {
      const order = targets.map((_, side) => (side + round) % targets.length);
      for (const side of order) {
        figures[side]?.push(await figureOf(measure, targets[side] as CloudTarget));
      }
    }
    console.log(row(measure, figures));
  }
  for (const { api } of targets) {
    api.close();
  }
}

const startLocal = async () => {
  const daemon = await Daemon.start();
  return { daemon, [Symbol.asyncDispose]: () => daemon.stop() };
};

const starters = {
  ecs: () =>
    EcsDaemon.start({
      aws: { quotas: { fargateVcpus: 64 } },
      ecs: { linger: "10m", log_drain_max: "128MiB" },
    }),
  aca: () => AcaDaemon.start({ aca: { linger: "10m", log_drain_max: "128MiB" } }),
} satisfies Record<CloudName, () => Promise<AsyncDisposable & { readonly daemon: Daemon }>>;

async function prepare(
  daemon: Daemon,
  client: MeasuringClient,
  interrupted: AbortSignal,
): Promise<CloudTarget> {
  if ((await daemon.docker("image", "inspect", "busybox")).code !== 0) {
    await daemon.ok("load", "--input", await busyboxArchiveFile());
  }
  await daemon.ok("network", "create", "peers");
  const api = new ApiClient(daemon.socket, undefined, interrupted);
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
  await untilTrue(async () => (await daemon.ok("logs", "--tail", "1", talked)) === "100", interrupted);
  const HostConfig = { NetworkMode: "peers", NanoCpus: ampleCpus };
  const files = `mkdir /www; head -c ${peerFileBytes} /dev/zero > /www/big; echo > /www/small`;
  const serve = ["sh", "-c", `${files}; exec httpd -f -h /www -p 8080`];
  const peer = await started({ Cmd: serve, HostConfig });
  await daemon.ok("rename", peer, "peer");
  const asker = await started({ Cmd: ["sleep", "3600"], HostConfig });
  const asked = ["exec", asker, "wget", "-qO-", "http://peer:8080/small"];
  await untilTrue(async () => (await daemon.docker(...asked)).code === 0, interrupted);
  const logged = await started({
    Cmd: ["sh", "-c", logScript(logBytes)],
    HostConfig: { NetworkMode: network, NanoCpus: ampleCpus, LogConfig: wholeLog },
  });
  await api.call("POST", `/containers/${logged}/wait`);
  await untilTrue(() => isIdle(daemon), interrupted); // The log has been taken in, and what simulates the cloud has read it.
  return { client, api, network, container, logged, echoing, talked, asker };
}

/** True if the daemon's processes and this one have next to nothing to do. */
async function isIdle(daemon: Daemon): Promise<boolean> {
  const usedMs = (): number => processorMsOf(daemon) + process.cpuUsage().user / 1000;
  const before = usedMs();
  await delay(1_000);
  return usedMs() - before < 100;
}

function row({ name, unit, most, mostMs }: CloudMeasure, figures: readonly number[][]): string {
  const [here = Number.NaN, ...there] = figures.map(median);
  const slower = there.map((each) => (unit === "ms" ? each / here : here / each));
  const bar = mostMs !== undefined ? `≤ ${mostMs} ms` : most !== undefined ? `≤ ${most}` : "";
  const isMet =
    there.every((each) => each <= (mostMs ?? Number.POSITIVE_INFINITY)) &&
    slower.every((each) => each <= (most ?? Number.POSITIVE_INFINITY));
  const [local, ...clouds] = figures.map((each) => `${spread(each)} ${unit}`);
  const cells = clouds.flatMap((cloud, index) => [cloud, (slower[index] ?? Number.NaN).toFixed(2)]);
  return `| ${[name, local, ...cells, bar, isMet ? "" : "missed"].join(" | ")} |`;
}
