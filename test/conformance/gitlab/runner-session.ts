/** GitLab Runner at work: it asks a coordinator for jobs, which run on a Docker daemon. */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { runCommand } from "../../support/command.ts";
import { Coordinator, type JobEnd, type Sources } from "./coordinator.ts";
import { helperImage } from "./images.ts";
import { type Expected, type Job, neededFor } from "./jobs.ts";
import { Recipe } from "./recipe.ts";

/** Far longer than any job takes. */
const jobLimitMs = 300_000;
const configurationFile = "config.toml";

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
  /** The configuration's file, in place of one with those settings. @param url the coordinator's */
  readonly configuration?: (url: string) => string;
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
  readonly #options: SessionOptions;
  readonly #coordinator: Coordinator;
  readonly #directory: string;
  readonly #mishaps: ReadonlyMap<Job, Promise<void>>;
  #runner: ChildProcess;

  private constructor(
    jobs: readonly Job[],
    options: SessionOptions,
    coordinator: Coordinator,
    directory: string,
  ) {
    this.jobs = jobs;
    this.#options = options;
    this.#coordinator = coordinator;
    this.#directory = directory;
    this.#runner = this.#startRunner();
    this.#mishaps = new Map(
      jobs.filter(({ mishap }) => mishap !== undefined).map((job) => [job, this.#meet(job)]),
    );
    for (const mishap of this.#mishaps.values()) {
      mishap.catch(() => {}); // The job's result tells it.
    }
  }

  static async start(options: SessionOptions): Promise<RunnerSession> {
    const directory = await mkdtemp(join(tmpdir(), "skl-gitlab-"));
    const jobs = neededFor(options.jobs);
    const { host, atOnce = 1 } = options;
    const coordinator = await Coordinator.start(host, await makeSources(directory), jobs, atOnce);
    await writeFile(
      join(directory, configurationFile),
      options.configuration?.(coordinator.url) ??
        configuration(coordinator.url, options, options.settings?.(directory) ?? []),
    );
    await mkdir(join(directory, "shared"));
    await writeFile(join(directory, "shared/hello"), "hello of the host\n");
    return new RunnerSession(jobs, options, coordinator, directory);
  }

  #startRunner(): ChildProcess {
    const log = openSync(this.#options.log, "a");
    const config = join(this.#directory, configurationFile);
    const runner = spawn(
      join(this.#options.programs, "gitlab-runner"),
      ["run", "--config", config, "--working-directory", this.#directory],
      { stdio: ["ignore", log, log], env: { ...process.env, HOME: this.#directory } },
    );
    closeSync(log);
    return runner;
  }

  /** Brings about a job's mishap once it has begun. */
  async #meet(job: Job): Promise<void> {
    await this.#coordinator.begun(job);
    const ofJob = `label=com.gitlab.gitlab-runner.job.id=${this.#coordinator.idOf(job)}`;
    const build = ["--filter", ofJob, "--filter", "label=com.gitlab.gitlab-runner.type=build"];
    if (job.mishap === "its container is killed") {
      await this.#docker("kill", await this.#docker("ps", "--quiet", ...build));
      return;
    }
    this.#runner.kill("SIGKILL");
    await once(this.#runner, "exit");
    const left = await this.#left(ofJob);
    await this.#run("sh", "-ec", (await Recipe.read()).clearing);
    const leftAfter = await this.#left(ofJob);
    const cleared = `cleared: ${leftAfter.length === 0 ? "nothing is" : leftAfter.join()} left\n`;
    this.#runner = this.#startRunner();
    this.#coordinator.giveUp(job, [...left.map((each) => `left: ${each}\n`), cleared].join(""));
  }

  /** The job's containers and networks that are there, without what is random in their names. */
  async #left(ofJob: string): Promise<string[]> {
    const format = ["--format", "{{.Names}} {{.State}}"];
    const containers = await this.#docker("ps", "--all", "--filter", ofJob, ...format);
    const networks = await this.#docker("network", "ls", "--filter", ofJob, "--format", "network");
    return `${containers.replaceAll(/^runner-.*-concurrent-\d+-[0-9a-f]+-/gm, "")}\n${networks}`
      .split("\n")
      .filter((line) => line !== "");
  }

  async #docker(...args: readonly string[]): Promise<string> {
    return await this.#run("docker", ...args);
  }

  async #run(program: string, ...args: readonly string[]): Promise<string> {
    const env = { ...process.env, DOCKER_HOST: this.#options.daemon, DOCKER_CONFIG: this.#directory };
    const { code, text, errorText } = await runCommand(program, args, { env });
    assert.equal(code, 0, `${program} ${args.join(" ")}: ${errorText}`);
    return text.trim();
  }

  /** Waits until a job has ended, whose turn comes after those before it. */
  async result(job: Job): Promise<JobResult> {
    const [end] = await Promise.race([
      Promise.all([this.#coordinator.end(job), this.#mishaps.get(job)]),
      late(),
    ]);
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

async function late(): Promise<readonly [undefined]> {
  await new Promise<void>((resolve) => {
    setTimeout(resolve, jobLimitMs).unref();
  });
  return [undefined];
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
