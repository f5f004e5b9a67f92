/** Running a suite against a daemon in a cell: namespaces and control groups of its own (cell.sh). */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createReadStream } from "node:fs";
import { access, mkdir, rm } from "node:fs/promises";
import { join } from "node:path";

import { checkout } from "../support/daemon.ts";
import { cache } from "./cache.ts";
import { type Results, readResults } from "./results.ts";

/** The engine that is asked. */
export type Candidate = "sockerless" | "dockerd";

/** Parameters of one run in a cell. */
export interface CellRun {
  readonly candidate: Candidate;
  /** Directory of logs and output, which stay; what else was written there before is deleted. */
  readonly directory: string;
  /** The working directory of the command. */
  readonly workingDirectory: string;
  readonly command: readonly string[];
  /** Directory that lies at `/docker-frozen-images`. */
  readonly images: string;
  /** Directory of moby's programs. */
  readonly programs: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Milliseconds after which the cell is ended. */
  readonly limitMs: number;
  /** True if the output is that of `-test.v=test2json`; else it is JSON already. */
  readonly isGoTest: boolean;
}

/** Runs the command and answers how each test ended; none of them, if it went well without one. */
export async function runInCell(run: CellRun): Promise<Results> {
  await rm(run.directory, { recursive: true, force: true });
  await mkdir(run.directory, { recursive: true });
  const here = join(checkout, "test/conformance");
  const child = spawn(
    join(here, "cell.sh"),
    [run.directory, join(here, "run-suite.sh"), run.candidate, run.workingDirectory, ...run.command],
    {
      env: {
        ...process.env,
        ...run.env,
        PATH: `${run.programs}:${process.env["PATH"]}`,
        CELL_FROZEN_IMAGES: run.images,
        CELL_VISIBLE: `${checkout} ${cache}`,
        CONFORMANCE_CHECKOUT: checkout,
      },
      stdio: ["ignore", "ignore", "pipe"],
    },
  );
  let complaints = "";
  child.stderr.on("data", (chunk: Buffer) => {
    complaints = (complaints + chunk.toString()).slice(-4000);
  });
  const limit = setTimeout(() => child.kill("SIGTERM"), run.limitMs);
  const stop = (): void => void child.kill("SIGTERM");
  process.on("SIGINT", stop).on("SIGTERM", stop).on("SIGHUP", stop);
  const [code] = (await once(child, "close")) as [number | null];
  clearTimeout(limit);
  process.off("SIGINT", stop).off("SIGTERM", stop).off("SIGHUP", stop);
  const results = await resultsIn(run.directory, run.isGoTest).catch(() => undefined);
  // Containers' files and volumes are of no use any more, and many.
  for (const name of ["var", "dest", "home", "registry"]) {
    await rm(join(run.directory, name), { recursive: true, force: true });
  }
  if (results === undefined || (results.size === 0 && code !== 0)) {
    throw new Error(`no test ran against ${run.candidate} (exit code ${code}): ${complaints}`);
  }
  return results;
}

/** How each test of a cell ended. @throws ENOENT: nothing ran in it */
export async function resultsIn(directory: string, isGoTest: boolean): Promise<Results> {
  const output = join(directory, "output");
  await access(output);
  return await readResults(isGoTest ? asJson(output) : createReadStream(output));
}

/** The output of a Go test binary as a stream of JSON, a line for each event. */
function asJson(output: string): NodeJS.ReadableStream {
  const converter = spawn("go", ["tool", "test2json", "-t"], { stdio: ["pipe", "pipe", "inherit"] });
  createReadStream(output).pipe(converter.stdin);
  return converter.stdout;
}
