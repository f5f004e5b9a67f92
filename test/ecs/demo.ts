/**
 * `npm run demo:ecs`: the ECS backend on a simulated AWS, for anyone without an account. Arguments go to
 * `sockerless serve`; the simulator and what it runs end with it.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { startAws } from "../simulators/aws/aws.ts";

const program = fileURLToPath(new URL("../../src/cli/main.js", import.meta.url));

await using resources = new AsyncDisposableStack();
const directory = await mkdtemp(join(tmpdir(), "sockerless-demo-"));
resources.defer(() => rm(directory, { recursive: true, force: true }));
const aws = resources.use(await startAws());

const config = join(directory, "config.yaml");
const ecs = { ...aws.config, agent_ca: join(directory, "agent-ca.pem") };
await writeFile(config, JSON.stringify({ backend: "ecs", state_dir: join(directory, "state"), ecs })); // JSON is YAML.

let failed = false;

/** Runs sockerless to its end and answers its exit code. */
async function sockerless(...args: readonly string[]): Promise<number> {
  const { accessKeyId, secretAccessKey } = aws.credentials;
  const command = [
    process.execPath,
    "--disable-sigusr1",
    "--enable-source-maps",
    program,
    ...args,
    "--config",
    config,
  ];
  // Without this process there is no AWS: the child is to end with it, however it ends.
  const child = spawn("setpriv", ["--pdeathsig", "TERM", ...command], {
    stdio: "inherit",
    env: { ...process.env, AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey },
  });
  // Ctrl-C reaches the child by itself; a signal to this process alone is passed on, and its end is ours.
  const pass = (signal: NodeJS.Signals): void => void child.kill(signal);
  const fail = (error: unknown): void => {
    console.error("the simulated AWS failed:", error);
    failed = true;
    child.kill();
  };
  process.on("SIGINT", pass).on("SIGTERM", pass).on("uncaughtException", fail);
  try {
    const [code] = (await once(child, "exit")) as [number | null];
    return failed ? 1 : (code ?? 1);
  } finally {
    process.off("SIGINT", pass).off("SIGTERM", pass).off("uncaughtException", fail);
  }
}

console.log(`simulated AWS: ${aws.endpoint}, region ${aws.region}, cluster ${aws.account.cluster}`);
const pushed = await sockerless("ecs", "push-agent");
process.exitCode = pushed === 0 ? await sockerless("serve", ...process.argv.slice(2)) : pushed;
