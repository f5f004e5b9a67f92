/**
 * `node run.js PROGRAMS [PATTERN]`: in a cell with a daemon, has GitLab Runner run the jobs whose names the pattern
 * matches, and prints how each ended as events of `go tool test2json`.
 */
import { execFileSync } from "node:child_process";

import { jobs } from "./jobs.ts";
import { RunnerSession } from "./runner-session.ts";

/** An address of the cell, which containers reach by way of their network's gateway. */
const host = "192.0.2.1";

const [programs = "", pattern = ""] = process.argv.slice(2);
execFileSync("ip", ["address", "add", `${host}/32`, "dev", "lo"]);
await using session = await RunnerSession.start({
  programs,
  host,
  daemon: process.env["DOCKER_HOST"] ?? "",
  jobs: jobs.filter(({ name }) => new RegExp(pattern).test(name)),
  settings: (directory) => [
    `volumes = ["/cache", "${directory}/shared:/host:ro", "named:/named", "/run/docker.sock:/var/run/docker.sock"]`,
    "shm_size = 100000000",
    'extra_hosts = ["extra.test:10.1.2.3"]',
    'memory = "1g"',
    'cpus = "1.5"',
    'cap_add = ["SYS_PTRACE"]',
    "[runners.docker.tmpfs]",
    '  "/scratch" = "rw,size=10m"',
    "[runners.docker.ulimit]",
    '  "nofile" = "2048:4096"',
  ],
  log: "/cell/runner.log",
});
let isWell = true;
for (const job of session.jobs) {
  tell({ Action: "run", Test: job.name });
  const { complaints, log, seconds } = await session.result(job);
  tell({ Action: "output", Test: job.name, Output: `${[...complaints, `log:\n${log}`].join("\n")}\n` });
  const isGood = complaints.length === 0;
  tell({ Action: isGood ? "pass" : "fail", Test: job.name, Elapsed: seconds });
  isWell &&= isGood;
  if (seconds === undefined) {
    break;
  }
}
process.exitCode = isWell ? 0 : 1;

function tell(event: object): void {
  console.log(JSON.stringify(event));
}
