/**
 * `npm run bench:cloud -- --kubernetes`: what streams cost by each of the ways to agents of a real Kubernetes, which this is run
 * beside.
 */
import { createExec, receive } from "../load/stream-client.ts";
import { runCommand } from "../support/command.ts";
import { Cluster } from "../support/kubernetes-cluster.ts";
import { type AgentWay, agentWays, KubernetesDaemon, settingsOf } from "../support/kubernetes-daemon.ts";
import { npmScript, wholeNumber } from "../support/npm-script.ts";
import { median } from "./figures.ts";
import { untilInterrupted } from "./interruption.ts";
import { mib, milliseconds } from "./measures.ts";
import { processorMsOf } from "./memory.ts";

const { megabytes, execs } = npmScript(
  "bench:cloud -- --kubernetes",
  "Times streams by each of the ways to agents of a real Kubernetes.",
)
  .option("--megabytes <number>", "MiB of each stream", wholeNumber, 256)
  .option("--execs <number>", "commands one after the other", wholeNumber, 20)
  .parse()
  .opts<{ megabytes: number; execs: number }>();
const size = megabytes * mib;

await untilInterrupted(async (resources, interrupted) => {
  const cluster = resources.use(await Cluster.start());
  console.log(
    `\n| agents, ${megabytes} MiB | exec stdout | exec stdin | processor time of the daemon per GiB | exec, median |`,
  );
  console.log("|---|---|---|---|---|");
  for (const way of agentWays) {
    interrupted.throwIfAborted();
    console.log(await row(cluster, way));
  }
});

async function row(cluster: Cluster, way: AgentWay): Promise<string> {
  await using kubernetes = await KubernetesDaemon.start(cluster, { kubernetes: settingsOf(way) });
  const { daemon } = kubernetes;
  const { socket } = daemon;
  await daemon.ok("run", "--detach", "--name", "bulk", "busybox", "sleep", "1d");
  const head = ["head", "-c", String(size), "/dev/zero"];
  const exec = await createExec(socket, "bulk", head);
  const processorMs = processorMsOf(daemon);
  const out = await milliseconds(async () => {
    const { bytes } = await receive(socket, "POST", `/exec/${exec}/start`, {});
    expect(bytes === size, `${bytes} of ${size} bytes came`);
  });
  const env = { ...process.env, DOCKER_HOST: `unix://${socket}` };
  const into = await milliseconds(async () => {
    const script = `${head.join(" ")} | docker exec -i bulk wc -c`;
    const { text, errorText } = await runCommand("sh", ["-c", script], { env });
    expect(text === String(size), `${text} of ${size} bytes went: ${errorText}`);
  });
  const usedS = (processorMsOf(daemon) - processorMs) / 1000;
  const times: number[] = [];
  for (let index = 0; index < execs; index++) {
    const id = await createExec(socket, "bulk", ["true"]);
    times.push(await milliseconds(() => receive(socket, "POST", `/exec/${id}/start`, {})));
  }
  const rate = (ms: number): string => `${Math.round(size / 1000 / ms)} MB/s`;
  const cells = [
    way,
    rate(out),
    rate(into),
    `${((usedS * 1024 * mib) / (2 * size)).toFixed(1)} s`,
    `${Math.round(median(times))} ms`,
  ];
  return `| ${cells.join(" | ")} |`;
}

function expect(holds: boolean, otherwise: string): void {
  if (!holds) {
    throw new Error(otherwise);
  }
}
