/** Simulated clouds whose containers do not really run, each with a daemon before it: for counting what starts cost. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

import type { Azure } from "../simulators/azure/azure.ts";
import type { CallLog } from "../simulators/common/calls.ts";
import type { Rates } from "../simulators/common/rates.ts";
import { AcaDaemon } from "../support/aca-daemon.ts";
import type { Daemon } from "../support/daemon.ts";
import { EcsDaemon } from "../support/ecs-daemon.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import { ManyAgents } from "../support/many-agents.ts";

export const cloudNames = ["ecs", "aca"] as const;
export type CloudName = (typeof cloudNames)[number];

/** One of them. */
export interface LightCloud extends AsyncDisposable {
  /** It has busybox. */
  readonly daemon: Daemon;
  readonly calls: CallLog;
  readonly rates: Rates;
}

/** So high that no bucket is ever empty. */
const unlimited = "1000000/1000000";
const rateNames: Readonly<Record<CloudName, readonly string[]>> = {
  ecs: ["task-writes", "run-task", "fargate-launches", "task-reads", "task-definition-writes"],
  aca: ["reads", "writes", "deletes", "polls"],
};
/** Pause between two looks for executions, whose agents are to call. */
const lookMs = 20;

/**
 * Opens one with room for so many containers.
 *
 * @param defaultRates the daemon calls no more often than the cloud's published rates let it
 */
export async function openCloud(name: CloudName, count: number, defaultRates: boolean): Promise<LightCloud> {
  await using resources = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), "skl-bench-"));
  resources.defer(() => rm(directory, { recursive: true }));
  const rates = defaultRates ? {} : { api_rates: rateNames[name].map((each) => `${each}=${unlimited}`) };
  const settings = { linger: "0", ...rates };
  const { daemon, context } =
    name === "ecs"
      ? await openEcs(directory, count, settings, resources)
      : await openAca(directory, settings, resources);
  const owned = resources.move();
  return {
    daemon,
    calls: context.calls,
    rates: context.rates,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

interface Opened {
  readonly daemon: Daemon;
  readonly context: Pick<LightCloud, "calls" | "rates">;
}

type Settings = Readonly<Record<string, unknown>>;

async function openEcs(
  directory: string,
  count: number,
  ecs: Settings,
  resources: AsyncDisposableStack,
): Promise<Opened> {
  const agents = resources.use(await ManyAgents.listen(directory));
  const { aws, daemon } = resources.use(
    await EcsDaemon.start({
      aws: {
        lightweight: true,
        quotas: { fargateVcpus: count + 1, networkInterfaces: 2 * count + 2 },
        ecs: { onTask: () => agents.address },
      },
      ecs,
    }),
  );
  await daemon.ok("load", "--input", await busyboxArchiveFile());
  return { daemon, context: aws };
}

async function openAca(directory: string, aca: Settings, resources: AsyncDisposableStack): Promise<Opened> {
  const executions = new Map<string, string>();
  const agents: ManyAgents = resources.use(
    await ManyAgents.calling(directory, (id) => azure.app.end(executions.get(id) ?? "")),
  );
  const { azure, daemon } = resources.use(await AcaDaemon.start({ azure: { lightweight: true }, aca }));
  const over = new AbortController();
  const calling = callFor(azure, agents, executions, over.signal);
  resources.defer(async () => {
    over.abort();
    await calling;
    await agents[Symbol.asyncDispose](); // Thousands would call a daemon that is no more.
  });
  return { daemon, context: azure };
}

/** Has the agents of executions call, as these come. @param executions their names by containers */
async function callFor(
  azure: Azure,
  agents: ManyAgents,
  executions: Map<string, string>,
  signal: AbortSignal,
): Promise<void> {
  const seen = new Set<string>();
  while (!signal.aborted) {
    for (const { name, job } of azure.app.executions.filter((each) => !seen.has(each.name))) {
      seen.add(name);
      const { template, configuration } = azure.app.jobs.body(job)?.properties ?? {};
      const env = template?.containers?.[0]?.env ?? [];
      const variable = (of: string): string => env.find((each) => each.name === of)?.value ?? "";
      const containerId = variable("SOCKERLESS_CONTAINER_ID");
      executions.set(containerId, name);
      void agents.call({
        containerId,
        url: variable("SOCKERLESS_CALLBACK_URL"),
        pin: variable("SOCKERLESS_CLIENT_CA_PIN"),
        secret: configuration?.secrets?.[0]?.value ?? "",
        token: variable("SOCKERLESS_CALLBACK_TOKEN"),
      });
    }
    await delay(lookMs, undefined, { signal }).catch(() => {});
  }
}
