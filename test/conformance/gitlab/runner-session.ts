/** GitLab Runner at work: it asks a coordinator for jobs, which run on a Docker daemon. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Coordinator, type JobEnd, type Sources } from "./coordinator.ts";
import { helperImage } from "./images.ts";
import { type Expected, type Job, neededFor } from "./jobs.ts";

/** Far longer than any job takes. */
const jobLimitMs = 300_000;

export interface SessionOptions {
  /** Directory of the runner's program. */
  readonly programs: string;
  /** Address at which containers reach this machine. */
  readonly host: string;
  /** `DOCKER_HOST`. */
  readonly daemon: string;
  readonly jobs: readonly Job[];
  /** How many run at once; unless said, 1. */
  readonly atOnce?: number;
  /** Lines of `[runners.docker]` besides those that every daemon gets. */
  readonly settings?: (directory: string) => readonly string[];
  /** File that the runner's own log is appended to. */
  readonly log: string;
}

/** The result of a job. */
export interface JobResult {
  /** Differences from what the job must come to. */
  readonly complaints: readonly string[];
  readonly log: string;
  /** Undefined: it has not ended in time. */
  readonly seconds: number | undefined;
}

export class RunnerSession implements AsyncDisposable {
  /** Those that were chosen, and those whose artifacts they need, in the order in which they run. */
  readonly jobs: readonly Job[];
  readonly #coordinator: Coordinator;
  readonly #runner: ChildProcess;
  readonly #directory: string;

  private constructor(
    jobs: readonly Job[],
    coordinator: Coordinator,
    runner: ChildProcess,
    directory: string,
  ) {
    this.jobs = jobs;
    this.#coordinator = coordinator;
    this.#runner = runner;
    this.#directory = directory;
  }

  static async start(options: SessionOptions): Promise<RunnerSession> {
    const directory = await mkdtemp(join(tmpdir(), "skl-gitlab-"));
    const jobs = neededFor(options.jobs);
    const { host, atOnce = 1 } = options;
    const coordinator = await Coordinator.start(host, await makeSources(directory), jobs, atOnce);
    const config = join(directory, "config.toml");
    await writeFile(config, configuration(coordinator.url, options, options.settings?.(directory) ?? []));
    await mkdir(join(directory, "shared"));
    await writeFile(join(directory, "shared/hello"), "hello of the host\n");
    const log = openSync(options.log, "a");
    const runner = spawn(
      join(options.programs, "gitlab-runner"),
      ["run", "--config", config, "--working-directory", directory],
      { stdio: ["ignore", log, log], env: { ...process.env, HOME: directory } },
    );
    closeSync(log);
    return new RunnerSession(jobs, coordinator, runner, directory);
  }

  /** Waits until a job has ended, whose turn comes after those before it. */
  async result(job: Job): Promise<JobResult> {
    const end = await Promise.race([this.#coordinator.end(job), late()]);
    return {
      complaints:
        end === undefined ? [`it has not ended after ${jobLimitMs / 1000} s`] : complaintsOf(job.expect, end),
      log: end?.log ?? this.#coordinator.logOf(job),
      seconds: end?.seconds,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#runner.exitCode === null && this.#runner.signalCode === null) {
      this.#runner.kill("SIGQUIT");
      await once(this.#runner, "exit");
    }
    await this.#coordinator[Symbol.asyncDispose]();
    await rm(this.#directory, { recursive: true, force: true });
  }
}

async function late(): Promise<undefined> {
  await new Promise<void>((resolve) => {
    setTimeout(resolve, jobLimitMs).unref();
  });
}

function complaintsOf(expected: Expected, { status, reason, exitCode, log }: JobEnd): string[] {
  return [
    ...(status === (expected.status ?? "success") ? [] : [`its status is ${status}`]),
    ...(expected.reason === undefined || expected.reason === reason ? [] : [`its reason is ${reason}`]),
    ...(expected.exitCode === undefined || expected.exitCode === exitCode
      ? []
      : [`its exit code is ${exitCode}`]),
    ...(expected.has ?? []).filter((part) => !log.includes(part)).map((part) => `its log lacks ${part}`),
    ...(expected.hasNot ?? []).filter((part) => log.includes(part)).map((part) => `its log has ${part}`),
  ];
}

/** A project of two files. */
async function makeSources(directory: string): Promise<Sources> {
  const root = join(directory, "sources");
  const project = join(root, "project");
  const git = (...args: readonly string[]): string =>
    execFileSync("git", ["-c", "user.name=test", "-c", "user.email=test@example.com", ...args], {
      cwd: project,
      encoding: "utf8",
    }).trim();
  await mkdir(join(project, "sub"), { recursive: true });
  await writeFile(join(project, "file1"), "first file\n");
  await writeFile(join(project, "sub/build.sh"), "echo built\n");
  git("init", "--quiet", "--initial-branch=main");
  git("add", ".");
  git("commit", "--quiet", "--message=first");
  git("clone", "--quiet", "--bare", project, join(root, "project.git"));
  return { root, commit: git("rev-parse", "HEAD") };
}

function configuration(
  url: string,
  { daemon, atOnce = 1 }: SessionOptions,
  settings: readonly string[],
): string {
  return `concurrent = ${atOnce}
check_interval = 1
shutdown_timeout = 5

[[runners]]
  name = "conformance"
  url = "${url}"
  id = 1
  token = "runner-token"
  executor = "docker"
  builds_dir = "/builds"

  [runners.docker]
    host = "${daemon}"
    image = "debian:job"
    helper_image = "${helperImage}"
    pull_policy = "never"
    wait_for_services_timeout = 15
${settings.map((line) => `    ${line}\n`).join("")}`;
}
