/** An AWS that is not of this project: moto, whose tasks a runner executes, with a sockerless that uses it. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { checkout, Daemon } from "./daemon.ts";
import { awsEnvironment, pushAgent } from "./ecs-daemon.ts";
import type { FoundPackages } from "./installed-packages.ts";
import { findPipPackages, pythonEnv } from "./pip-packages.ts";

const folder = join(checkout, "test/programs/moto");

/** The packages of moto, or why there are none. */
export async function findMoto(): Promise<FoundPackages> {
  return await findPipPackages("moto", join(folder, "requirements.txt"));
}

interface Account {
  readonly ecs: Readonly<Record<string, unknown>>;
  readonly credentials: Parameters<typeof awsEnvironment>[0];
}

/** Starts an account of moto's and a daemon, both in one network namespace, where the tasks have addresses. */
export async function startOnMoto(packages: string, resources: AsyncDisposableStack): Promise<Daemon> {
  const directory = await mkdtemp(join(tmpdir(), "skl-moto-"));
  resources.defer(() => rm(directory, { recursive: true, force: true }));
  const own = join(directory, "account");
  await mkdir(own);
  const namespaces = ["--net", "--pid", "--fork", "--mount-proc", "--kill-child=KILL"];
  const moto = spawn("unshare", [...namespaces, "python3", join(folder, "account.py"), own], {
    env: pythonEnv(packages),
    stdio: ["pipe", "pipe", "pipe"],
  });
  const ended = once(moto, "close");
  resources.defer(async () => {
    moto.stdin.end();
    await ended;
  });
  let said = "";
  moto.stderr.on("data", (chunk: Buffer) => {
    said = (said + chunk.toString()).slice(-10_000);
  });
  const [line] = (await Promise.race([once(createInterface(moto.stdout), "line"), ended])) as [unknown];
  if (typeof line !== "string") {
    throw new Error(`moto ended with ${String(line)}: ${said}`);
  }
  const account = JSON.parse(line) as Account;
  const config = join(directory, "config.yaml");
  await writeFile(
    config,
    JSON.stringify({ ecs: { ...account.ecs, agent_ca: join(directory, "agent-ca.pem") } }),
  );
  const env = awsEnvironment(account.credentials);
  const within = ["nsenter", `--net=/proc/${moto.pid}/ns/net`];
  await pushAgent(config, env, within);
  const args = ["--backend", "ecs", "--config", config];
  return resources.use(await Daemon.start({ args, env, within }));
}
