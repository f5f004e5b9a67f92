/**
 * `node run.js PROGRAMS [PATTERN]`: in a cell with a daemon, has GitLab Runner run the jobs whose names the pattern
 * matches, and prints how each ended as events of `go tool test2json`.
 */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { openSync } from "node:fs";
import { mkdir, mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Coordinator, type JobEnd, type Sources } from "./coordinator.ts";
import { helperImage } from "./images.ts";
import { type Expected, jobs } from "./jobs.ts";

/** An address of the cell, which containers reach by way of their network's gateway. */
const host = "192.0.2.1";
const jobLimitMs = 300_000;

const [programs = "", pattern = ""] = process.argv.slice(2);
const directory = await mkdtemp(join(tmpdir(), "gitlab-"));
execFileSync("ip", ["address", "add", `${host}/32`, "dev", "lo"]);
const chosen = jobs.filter(({ name }) => new RegExp(pattern).test(name));
const wanted = jobs.filter(
  (job) => chosen.includes(job) || chosen.some(({ needs }) => needs?.includes(job.name)),
);
await using coordinator = await Coordinator.start(host, await makeSources(), wanted);
await configure();
const log = openSync("/cell/runner.log", "a");
const runner = spawn(
  join(programs, "gitlab-runner"),
  ["run", "--config", join(directory, "config.toml"), "--working-directory", directory],
  { stdio: ["ignore", log, log], env: { ...process.env, HOME: directory } },
);
let isWell = true;
for (const job of wanted) {
  tell({ Action: "run", Test: job.name });
  const end = await Promise.race([coordinator.end(job), late()]);
  const complaints =
    end === undefined ? [`it has not ended after ${jobLimitMs / 1000} s`] : complaintsOf(job.expect, end);
  const output = [...complaints, `log:\n${end?.log ?? coordinator.logOf(job)}`].join("\n");
  tell({ Action: "output", Test: job.name, Output: `${output}\n` });
  const isGood = complaints.length === 0;
  tell({ Action: isGood ? "pass" : "fail", Test: job.name, Elapsed: end?.seconds });
  isWell &&= isGood;
  if (end === undefined) {
    break;
  }
}
runner.kill("SIGQUIT");
await once(runner, "exit");
process.exitCode = isWell ? 0 : 1;

function tell(event: object): void {
  console.log(JSON.stringify(event));
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

/** A project of three files. */
async function makeSources(): Promise<Sources> {
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

async function configure(): Promise<void> {
  const shared = join(directory, "shared");
  await mkdir(shared);
  await writeFile(join(shared, "hello"), "hello of the host\n");
  await writeFile(
    join(directory, "config.toml"),
    `concurrent = 1
check_interval = 1
shutdown_timeout = 5

[[runners]]
  name = "conformance"
  url = "${coordinator.url}"
  id = 1
  token = "runner-token"
  executor = "docker"
  builds_dir = "/builds"

  [runners.docker]
    host = "${process.env["DOCKER_HOST"]}"
    image = "debian:job"
    helper_image = "${helperImage}"
    pull_policy = "never"
    wait_for_services_timeout = 15
    volumes = ["/cache", "${shared}:/host:ro", "named:/named", "/run/docker.sock:/var/run/docker.sock"]
    shm_size = 100000000
    extra_hosts = ["extra.test:10.1.2.3"]
    memory = "1g"
    cpus = "1.5"
    cap_add = ["SYS_PTRACE"]

    [runners.docker.tmpfs]
      "/scratch" = "rw,size=10m"

    [runners.docker.ulimit]
      "nofile" = "2048:4096"
`,
  );
}
