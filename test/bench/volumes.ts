/** `npm run bench:volumes`: what is written to volumes, beside dockerd's and the bare disk, and what they add to a start. */
import { mkdir, mkdtemp, open, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { runCommand } from "../support/command.ts";
import { Daemon } from "../support/daemon.ts";
import { Dockerd } from "../support/dockerd.ts";
import { busyboxArchiveFile } from "../support/images.ts";
import { npmScript, wholeNumber } from "../support/npm-script.ts";
import { tarOf } from "../support/tar.ts";
import { ApiClient } from "./api-client.ts";
import { spread } from "./figures.ts";
import { untilInterrupted } from "./interruption.ts";
import { createContainer, milliseconds, mib } from "./measures.ts";

const pageBytes = 8 * 1024;
const fileBytes = 128 * mib;

const { rounds, writes, files, starts } = npmScript(
  "bench:volumes",
  "Times what is written to volumes, beside dockerd's and the bare disk, and starts with them.",
)
  .option("--rounds <number>", "of each measure", wholeNumber, 5)
  .option("--writes <number>", "of 8 KiB that are synced, in a round", wholeNumber, 2000)
  .option("--files <number>", "of 2 KiB that are unpacked in a round", wholeNumber, 10_000)
  .option("--starts <number>", "of each kind of container", wholeNumber, 50)
  .parse()
  .opts<{ rounds: number; writes: number; files: number; starts: number }>();

await untilInterrupted(async (resources, interrupted) => {
  const scratch = await mkdtemp(join(tmpdir(), "skl-bench-"));
  resources.defer(() => rm(scratch, { recursive: true }));
  const dockerd = resources.use(await Dockerd.startWithBusybox());
  interrupted.throwIfAborted();
  const ours = resources.use(await Daemon.start());
  const image = await busyboxArchiveFile();
  await Promise.all([dockerd.ok("load", "-i", image), ours.ok("load", "-i", image)]);
  const archive = join(scratch, "files.tar");
  const entries = Array.from({ length: files }, (_, n) => ({
    name: `${n % 100}/${n}`,
    content: Buffer.alloc(2048, String(n)),
  }));
  await writeFile(archive, await tarOf(entries));

  /** Kinds of volumes of ours, by what they are made with. */
  const kinds = {
    local: [],
    block: ["--driver=block"],
    "block, fallocate=true": ["--driver=block", "--opt=size=1G", "--opt=fallocate=true"],
    "block, fallocate=full": ["--driver=block", "--opt=size=1G", "--opt=fallocate=full"],
  } as const;

  /** Makes a volume that is mounted as long as its container runs, and answers its directory. */
  async function mountedVolume(name: string, options: readonly string[]): Promise<string> {
    interrupted.throwIfAborted();
    await ours.ok("volume", "create", ...options, name);
    await ours.ok(
      ...["run", "--detach", "--network=none", "--volume", `${name}:/data`, "busybox", "sleep", "1000000"],
    );
    return join(ours.stateDir, "volumes", name, "_data");
  }

  const places = new Map<string, string>([["bare disk", scratch]]);
  for (const [index, [kind, options]] of Object.entries(kinds).entries()) {
    places.set(kind, await mountedVolume(`written-${index}`, options));
  }
  await dockerd.ok("volume", "create", "written");
  places.set("dockerd's", await dockerd.ok("volume", "inspect", "--format={{.Mountpoint}}", "written"));

  /** Measures of a directory. */
  const measures = {
    "overwrites of 8 KiB with fdatasync, per s": async (directory: string) => {
      await using file = await open(join(directory, "pages"), "w+");
      const zeros = Buffer.alloc(mib);
      for (let at = 0; at < fileBytes; at += zeros.length) {
        await file.write(zeros, 0, zeros.length, at);
      }
      await file.sync();
      return await syncedWrites(file, (n) => ((n * 7919) % (fileBytes / pageBytes)) * pageBytes);
    },
    "appends of 8 KiB with fdatasync, per s": async (directory: string) => {
      await using file = await open(join(directory, "log"), "w+");
      return await syncedWrites(file, (n) => n * pageBytes);
    },
    [`${files} files of 2 KiB unpacked and synced, ms`]: async (directory: string) => {
      const target = join(directory, "unpacked");
      await mkdir(target);
      const time = await milliseconds(async () => {
        await must("tar", "--extract", "--file", archive, "--directory", target);
        await must("sync", "--file-system", target);
      });
      await rm(target, { recursive: true });
      return time;
    },
  };

  async function syncedWrites(
    file: Awaited<ReturnType<typeof open>>,
    placeOf: (n: number) => number,
  ): Promise<number> {
    const page = Buffer.alloc(pageBytes, "x");
    const time = await milliseconds(async () => {
      for (let n = 0; n < writes; n++) {
        await file.write(page, 0, pageBytes, placeOf(n));
        await file.datasync();
      }
    });
    return writes / (time / 1000);
  }

  async function must(program: string, ...args: string[]): Promise<void> {
    const { code, errorText } = await runCommand(program, args, { signal: interrupted });
    if (code !== 0) {
      throw new Error(`${program} ${args.join(" ")}: ${errorText}`);
    }
  }

  /** Milliseconds of a start's answer, by what the container mounts. */
  const api = new ApiClient(ours.socket, undefined, interrupted);
  resources.defer(() => api.close());
  const started = new Map<string, string>([["no volume", await containerWith(undefined)]]);
  for (const [index, [kind, options]] of Object.entries(kinds).entries()) {
    await ours.ok("volume", "create", ...options, `started-${index}`);
    started.set(kind, await containerWith(`started-${index}`));
  }

  function containerWith(volume: string | undefined): Promise<string> {
    const binds = volume === undefined ? {} : { Binds: [`${volume}:/data`] };
    return createContainer(
      { api, network: "none" },
      { Cmd: ["true"], HostConfig: { NetworkMode: "none", ...binds } },
    );
  }

  async function startTime(container: string): Promise<number> {
    const time = await milliseconds(() => api.call("POST", `/containers/${container}/start`));
    await api.call("POST", `/containers/${container}/wait`);
    return time;
  }

  /** Rounds over all subjects, each round beginning with another, and the figures of each. */
  async function figures<T>(
    subjects: ReadonlyMap<string, T>,
    times: number,
    measure: (subject: T) => Promise<number>,
  ): Promise<ReadonlyMap<string, readonly number[]>> {
    const found = new Map<string, number[]>();
    const all = [...subjects];
    for (let round = 0; round < times; round++) {
      for (const [name, subject] of [...all.slice(round % all.length), ...all.slice(0, round % all.length)]) {
        interrupted.throwIfAborted();
        found.set(name, [...(found.get(name) ?? []), await measure(subject)]);
      }
    }
    return found;
  }

  function report(header: readonly string[], rows: readonly (readonly string[])[]): void {
    for (const row of [header, header.map(() => "---"), ...rows]) {
      console.log(`| ${row.join(" | ")} |`);
    }
    console.log();
  }

  const rows: string[][] = [];
  for (const [name, measure] of Object.entries(measures)) {
    const found = await figures(places, rounds, measure);
    rows.push([name, ...[...places.keys()].map((place) => spread(found.get(place) ?? []))]);
  }
  report(["", ...places.keys()], rows);
  const times = await figures(started, starts, startTime);
  report(
    ["", ...started.keys()],
    [["start, ms", ...[...started.keys()].map((kind) => spread(times.get(kind) ?? []))]],
  );
});
