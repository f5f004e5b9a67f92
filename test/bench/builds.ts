/** Builds by the docker CLI and by buildx, beside those of dockerd's classic builder and of its BuildKit. */
import { randomBytes, randomUUID } from "node:crypto";
import { mkdir, mkdtemp, open, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { compileBuilder } from "../support/builds.ts";
import { findPlugin, installPlugin } from "../support/cli-plugins.ts";
import { buildLimitMs, type CommandResult, runCommand } from "../support/command.ts";
import type { Daemon } from "../support/daemon.ts";
import type { Dockerd } from "../support/dockerd.ts";
import { median, spread } from "./figures.ts";
import { mib, milliseconds } from "./measures.ts";
import { languagesArchive, projects, writeProject } from "./projects.ts";

const steps = 10;
const fileCount = 10_000;
const contextFiles = 4;
const contextBytes = 1024 * mib;

/** A build and what is done before each, which is not measured. */
interface BuildMeasure {
  readonly name: string;
  readonly unit: "ms" | "MB/s";
  /** The bars against the classic builder and against BuildKit: `most` for times, `least` for rates. */
  readonly bars: readonly [number | undefined, number | undefined];
  prepare(directory: string, interrupted: AbortSignal): Promise<void>;
  /** Whether its base is {@link languagesArchive}. */
  readonly isProject?: boolean;
}

const runs = (word: string): string =>
  Array.from({ length: steps }, (_, at) => `RUN echo ${word} > /file${at}\n`).join("");

const dockerfileOf = (directory: string, text: string) => writeFile(join(directory, "Dockerfile"), text);

const buildMeasures: readonly BuildMeasure[] = [
  {
    name: `build of ${steps} RUN, nothing cached`,
    unit: "ms",
    bars: [0.5, 1],
    prepare: (directory) => dockerfileOf(directory, `FROM busybox\n${runs(randomUUID())}`),
  },
  {
    name: `build of ${steps} RUN, all cached`,
    unit: "ms",
    bars: [undefined, 1],
    prepare: (directory) => dockerfileOf(directory, `FROM busybox\n${runs("cached")}`),
  },
  {
    name: `build with COPY of ${fileCount} files`,
    unit: "ms",
    bars: [undefined, 1],
    prepare: async (directory, interrupted) => {
      for (let at = 0; at < fileCount; at++) {
        interrupted.throwIfAborted();
        const folder = join(directory, `folder${at % 100}`);
        await mkdir(folder, { recursive: true });
        await writeFile(join(folder, `file${at}`), randomUUID());
      }
      await dockerfileOf(directory, "FROM busybox\nCOPY . /files\n");
    },
  },
  {
    name: "build with a context of 1 GiB",
    unit: "MB/s",
    bars: [1, 1],
    prepare: async (directory, interrupted) => {
      for (let at = 0; at < contextFiles; at++) {
        await using file = await open(join(directory, `file${at}`), "w");
        const noise = randomBytes(8 * mib);
        for (let written = 0; written < contextBytes / contextFiles; written += noise.length) {
          interrupted.throwIfAborted();
          noise.writeUInt32LE(written / noise.length, 0);
          await file.write(noise);
        }
      }
      await dockerfileOf(directory, "FROM busybox\nCOPY . /files\n");
    },
  },
  ...Object.entries(projects).flatMap(([language, project]) =>
    (["all", "source", "nothing"] as const).map(
      (change): BuildMeasure => ({
        name: `build of a ${language} project, ${change} changed`,
        unit: "ms",
        bars: [undefined, 1],
        prepare: (directory) => writeProject(directory, project, change),
        isProject: true,
      }),
    ),
  ),
];

/** Steps have no network: dockerd's is the one thing here that another dockerd of the machine may take away. */
const flags = ["--network", "none", "--tag", "built"];

/** Options of {@link compareBuilds}. */
export interface ComparisonOptions {
  readonly rounds: number;
  /** A text in the names of the measures. */
  readonly only: string;
  readonly interrupted: AbortSignal;
}

/** Prints a table of the measures that have a text in their name: each of the four builds in turn. */
export async function compareBuilds(
  ours: Daemon,
  dockerd: Dockerd,
  { rounds, only, interrupted }: ComparisonOptions,
): Promise<void> {
  const chosen = buildMeasures.filter(({ name }) => name.includes(only));
  if (chosen.length === 0) {
    return;
  }
  await compileBuilder({ signal: interrupted });
  const plugin = await findPlugin("buildx");
  if ("missing" in plugin) {
    console.log(plugin.missing);
    return;
  }
  await installPlugin(ours, plugin.path);
  const ourEnv = { ...ours.clientEnv };
  const theirEnv = { ...ourEnv, DOCKER_HOST: `unix://${dockerd.socket}` };
  const classic = { DOCKER_BUILDKIT: "0" };
  const sides = [
    { env: { ...ourEnv, ...classic }, command: ["build"] },
    { env: { ...theirEnv, ...classic }, command: ["build"] },
    { env: ourEnv, command: ["buildx", "build", "--progress", "plain"] },
    { env: theirEnv, command: ["buildx", "build", "--progress", "plain"] },
  ];
  const directory = await mkdtemp(join(tmpdir(), "skl-bench-"));
  if (chosen.some(({ isProject }) => isProject === true)) {
    const input = await languagesArchive();
    for (const env of [ourEnv, theirEnv]) {
      succeeded(await runCommand("docker", ["load", "--quiet"], { env, input, signal: interrupted }));
    }
  }
  console.log(`\nbuilds, median of ${rounds} (least … most), alternated\n`);
  console.log(
    "| measure | docker build | dockerd's classic builder | ratio | bar | buildx | dockerd's BuildKit | ratio | bar |",
  );
  console.log("|---|---|---|---|---|---|---|---|---|");
  try {
    for (const measure of chosen) {
      const figures: number[][] = sides.map(() => []);
      for (let round = -1; round < rounds; round++) {
        for (const [at, { env, command }] of round % 2 === 0
          ? [...sides.entries()]
          : [...sides.entries()].toReversed()) {
          interrupted.throwIfAborted();
          const context = join(directory, "context");
          await mkdir(context);
          await measure.prepare(context, interrupted);
          const time = await milliseconds(async () => {
            succeeded(
              await runCommand("docker", [...command, ...flags, context], {
                env,
                timeout: buildLimitMs,
                signal: interrupted,
              }),
            );
          });
          await rm(context, { recursive: true });
          if (round >= 0) {
            figures[at]?.push(measure.unit === "ms" ? time : contextBytes / mib / (time / 1000));
          }
        }
      }
      console.log(row(measure, figures));
    }
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function succeeded({ code, errorText }: CommandResult): void {
  if (code !== 0) {
    throw new Error(`the build failed: ${errorText}`);
  }
}

function row({ name, unit, bars }: BuildMeasure, figures: readonly (readonly number[])[]): string {
  const cells = [0, 1].flatMap((pair) => {
    const [mine = [], theirs = []] = figures.slice(2 * pair, 2 * pair + 2);
    const ratio = median(mine) / median(theirs);
    const bar = bars[pair];
    const isMet = bar === undefined || (unit === "ms" ? ratio <= bar : ratio >= bar);
    const wanted = bar === undefined ? "" : `${unit === "ms" ? "≤" : "≥"} ${bar}${isMet ? "" : ", missed"}`;
    return [`${spread(mine)} ${unit}`, `${spread(theirs)} ${unit}`, ratio.toFixed(2), wanted];
  });
  return `| ${[name, ...cells].join(" | ")} |`;
}
