/**
 * `npm run demo:ecs`: the ECS backend on a simulated AWS, for anyone without an account. Arguments go to
 * `sockerless serve`; the simulator and what it runs end with it.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { startAws } from "../simulators/aws/aws.ts";
import { demonstrate } from "../support/demo.ts";

await using resources = new AsyncDisposableStack();
const directory = await mkdtemp(join(tmpdir(), "sockerless-demo-"));
resources.defer(() => rm(directory, { recursive: true, force: true }));
const aws = resources.use(await startAws());

const config = join(directory, "config.yaml");
const ecs = { ...aws.config, agent_ca: join(directory, "agent-ca.pem") };
await writeFile(config, JSON.stringify({ backend: "ecs", state_dir: join(directory, "state"), ecs })); // JSON is YAML.

console.log(`simulated AWS: ${aws.endpoint}, region ${aws.region}, cluster ${aws.account.cluster}`);
const { accessKeyId, secretAccessKey } = aws.credentials;
const env = { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey };
process.exitCode = await demonstrate("AWS", env, [
  ["ecs", "push-agent", "--config", config],
  ["serve", ...process.argv.slice(2), "--config", config],
]);
