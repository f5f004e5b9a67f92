/** `npm run bench`: sockerless beside a real dockerd, in one run, alternated, as ratios. */
import { writeFile } from "node:fs/promises";
import { cpus } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

import { Option } from "commander";

import { addPlugin, findPlugin } from "../support/cli-plugins.ts";
import { runCommand } from "../support/command.ts";
import { Daemon } from "../support/daemon.ts";
import { Dockerd } from "../support/dockerd.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import { npmScript, wholeNumber } from "../support/npm-script.ts";
import { ApiClient } from "./api-client.ts";
import { compareBuilds } from "./builds.ts";
import { type CliTarget, cliMeasures } from "./cli-measures.ts";
import { dailyMeasures } from "./daily-measures.ts";
import { figureOf, median, spread } from "./figures.ts";
import { imageMeasures } from "./image-measures.ts";
import { untilInterrupted } from "./interruption.ts";
import { createContainer, logBytes, logScript, type Measure, measures } from "./measures.ts";
import { MeasuringClient } from "./measuring-client.ts";
import { memoryOf } from "./memory.ts";
import { type ComparedRow, ratioPicture } from "./ratio-picture.ts";

/** Outside every pool that sockerless would take. */
const dockerdBridge = "10.213.0.1/16";
const listed = 200;
const memoryContainers = 10;
/** Time without a request after which a daemon is idle: ours gives memory back by then. */
const restMs = 20_000;
/** The longest that a script may take, which moves 1 GiB. */
const scriptLimitMs = 600_000;
const networks = ["none", "bridge"] as const;
const heading = "| measure | sockerless | dockerd | ratio | bar | |\n|---|---|---|---|---|---|\n";

const options = npmScript("bench", "Times sockerless beside a real dockerd, alternated.")
  .option("--rounds <number>", "of each measure", wholeNumber, 5)
  .option("--only <text>", "the measures with this in their name", "")
  .addOption(
    new Option("--network <kind>", "of the containers (default: one after the other)").choices(networks),
  )
  .option("--picture <file>", "writes the ratios there, as SVG")
  .parse()
  .opts<{ rounds: number; only: string; network?: string; picture?: string }>();
const { rounds } = options;
const withName = (all: readonly Measure<CliTarget>[]) =>
  all.filter(({ name }) => name.includes(options.only));
const chosen = withName([...measures, ...cliMeasures, ...imageMeasures]);
const daily = withName(dailyMeasures);
/** Those of the picture: each measure once. */
const compared = new Map<string, ComparedRow>();

await untilInterrupted(async (resources, interrupted) => {
  const dockerd = resources.use(
    await Dockerd.startWithBusybox({ address: dockerdBridge, isFiltering: true }),
  );
  interrupted.throwIfAborted();
  const ours = resources.use(await Daemon.start());
  interrupted.throwIfAborted();
  const ourClient = resources.use(await MeasuringClient.start(ours.socket, interrupted));
  const theirClient = resources.use(await MeasuringClient.start(dockerd.socket, interrupted));
  const archive = await busyboxArchiveFile();
  await Promise.all([dockerd.ok("load", "-i", archive), ours.ok("load", "-i", archive)]);
  const version = await dockerd.ok("version", "--format", "{{.Server.Version}}");
  console.log(`${cpus().length} × ${cpus()[0]?.model}, Node ${process.version}, dockerd ${version}`);
  if ("memory".includes(options.only)) {
    await reportMemory(ours, dockerd, interrupted);
  }
  const targetsOn = async (network: CliTarget["network"]): Promise<readonly [CliTarget, CliTarget]> => [
    await prepare(ours, ourClient, network, interrupted),
    await prepare(dockerd, theirClient, network, interrupted),
  ];
  for (const network of chosen.length === 0 ? [] : networks) {
    if (options.network === undefined || options.network === network) {
      await compare(await targetsOn(network), chosen);
    }
  }
  if (daily.length > 0) {
    const plugin = await findPlugin("compose");
    if ("missing" in plugin) {
      console.log(plugin.missing);
    } else {
      const targets = await targetsOn("bridge");
      for (const { directory } of targets) {
        await addPlugin(configOf(directory), plugin.path);
      }
      await compare(targets, daily);
    }
  }
  await compareBuilds(ours, dockerd, { rounds, only: options.only, interrupted });
  if (options.picture !== undefined) {
    await writeFile(options.picture, ratioPicture([...compared.values()]));
  }
});

/** @param targets ours and dockerd's, on one network */
async function compare(
  targets: readonly [CliTarget, CliTarget],
  chosen: readonly Measure<CliTarget>[],
): Promise<void> {
  const [{ network }] = targets;
  console.log(`\nnetwork ${network}, median of ${rounds} (least … most), alternated\n`);
  console.log(heading.trimEnd());
  for (const measure of chosen) {
    const figures: [number[], number[]] = [[], []];
    for (const target of targets) {
      await figureOf(measure, target); // warm-up
    }
    for (let round = 0; round < rounds; round++) {
      // The side that comes first would always meet the colder machine.
      for (const side of round % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const)) {
        figures[side].push(await figureOf(measure, targets[side]));
      }
    }
    console.log(row(measure, figures[0], figures[1]));
    const { name, unit } = measure;
    compared.set(name, { name, unit, ratio: median(figures[0]) / median(figures[1]) });
  }
  for (const { api } of targets) {
    const all = await api.json<{ Id: string }[]>("GET", "/containers/json?all=1");
    await inBatches(all, ({ Id }) => api.call("DELETE", `/containers/${Id}?force=1`));
    api.close();
  }
}

async function prepare(
  daemon: Daemon | Dockerd,
  client: MeasuringClient,
  network: CliTarget["network"],
  interrupted: AbortSignal,
): Promise<CliTarget> {
  const api = new ApiClient(daemon.socket, undefined, interrupted);
  const made = await inBatches(Array.from({ length: listed - 2 }), () =>
    createContainer({ api, network }, { Cmd: ["true"] }),
  );
  const container = await createContainer({ api, network }, { Cmd: ["sleep", "3600"] });
  await api.call("POST", `/containers/${container}/start`);
  const logged = await createContainer({ api, network }, { Cmd: ["sh", "-c", logScript(logBytes)] });
  await api.call("POST", `/containers/${logged}/start`);
  await api.call("POST", `/containers/${logged}/wait`);
  if (made.length !== listed - 2) {
    throw new Error("containers are missing");
  }
  const { socket, directory } = daemon;
  return { client, api, network, container, logged, socket, directory, shell: shellOf(daemon, interrupted) };
}

/** Configuration of the docker CLI of a daemon's users. */
function configOf(directory: string): string {
  return join(directory, "docker-config");
}

function shellOf({ socket, directory }: Daemon | Dockerd, interrupted: AbortSignal): CliTarget["shell"] {
  const env = {
    ...process.env,
    DOCKER_HOST: `unix://${socket}`,
    DOCKER_CONFIG: configOf(directory),
  };
  return async (script) => {
    const limits = { timeout: scriptLimitMs, signal: interrupted };
    const { code, errorText } = await runCommand("sh", ["-ec", script], { env, ...limits });
    if (code !== 0) {
      throw new Error(`${script} ended with ${code}: ${errorText}`);
    }
  };
}

async function inBatches<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (let at = 0; at < items.length; at += 8) {
    results.push(...(await Promise.all(items.slice(at, at + 8).map(work))));
  }
  return results;
}

function row(
  { name, unit, bar }: Pick<Measure, "name" | "unit" | "bar">,
  mine: readonly number[],
  theirs: readonly number[],
): string {
  return `| ${name} | ${spread(mine)} ${unit} | ${spread(theirs)} ${unit} | ${judged(bar, mine, theirs)} |`;
}

/** The ratio of medians, its bar, and whether that is missed, as the last cells of a row. */
function judged(bar: Measure["bar"], mine: readonly number[], theirs: readonly number[]): string {
  const ratio = median(mine) / median(theirs);
  if (bar === undefined) {
    return `${ratio.toFixed(2)} | | `;
  }
  const [wanted, met] =
    "limit" in bar
      ? [`≤ ${bar.limit} ms`, median(mine) <= bar.limit]
      : "most" in bar
        ? [`≤ ${bar.most}`, ratio <= bar.most]
        : [`≥ ${bar.least}`, ratio >= bar.least];
  return `${ratio.toFixed(2)} | ${wanted} | ${met ? "" : "missed"}`;
}

/** Memory of all daemon processes, idle and with running containers, of both sides after the same rest. */
async function reportMemory(ours: Daemon, dockerd: Dockerd, interrupted: AbortSignal): Promise<void> {
  const sides = [
    { daemon: ours, idle: [] as number[], each: [] as number[] },
    { daemon: dockerd, idle: [] as number[], each: [] as number[] },
  ] as const;
  const rest = (): Promise<void> => delay(restMs, undefined, { signal: interrupted });
  const names = Array.from({ length: memoryContainers }, (_, n) => `memory-${n}`);
  for (let round = 0; round < rounds; round++) {
    await rest();
    for (const { daemon, idle } of sides) {
      idle.push(memoryOf(daemon));
    }
    for (const name of names) {
      for (const { daemon } of sides) {
        interrupted.throwIfAborted();
        await daemon.ok("run", "-d", "--network", "none", "--name", name, "busybox", "sleep", "3600");
      }
    }
    await rest();
    for (const { daemon, idle, each } of sides) {
      each.push((memoryOf(daemon) - (idle.at(-1) ?? 0)) / memoryContainers);
      await daemon.ok("rm", "-f", ...names);
    }
  }
  const [{ idle, each }, { idle: theirIdle, each: theirEach }] = sides;
  console.log("\nmemory (Pss of all processes)\n");
  console.log(`${heading}${row({ name: "idle", unit: "MB", bar: { most: 1.3 } }, idle, theirIdle)}`);
  console.log(row({ name: "per running container", unit: "MB", bar: { most: 1 } }, each, theirEach));
}
