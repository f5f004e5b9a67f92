/** A sockerless whose containers run as tasks of a simulated AWS, all gone at the end. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { type Aws, type AwsOptions, startAws } from "../simulators/aws/aws.ts";
import { runCommand } from "./command.ts";
import { checkout, Daemon, type DaemonOptions } from "./daemon.ts";

type Settings = Readonly<Record<string, unknown>>;

/** What an {@link EcsDaemon} is made with. */
export interface EcsDaemonOptions {
  readonly aws?: AwsOptions;
  /** Settings of the `ecs:` section that differ from what fits the simulated account, or what makes them in it. */
  readonly ecs?: Settings | ((aws: Aws) => Promise<Settings>);
  readonly daemon?: DaemonOptions;
  /** The backend may do what `deploy/iam/backend-policy.json` says, and no more. */
  readonly leastPrivilege?: boolean;
}

/** A simulated account and a daemon that uses it. */
export class EcsDaemon implements AsyncDisposable {
  readonly aws: Aws;
  readonly daemon: Daemon;
  /** Of the configuration, and of the authority over the agents: `agent-ca.pem`. */
  readonly directory: string;
  readonly #resources: AsyncDisposableStack;

  private constructor(aws: Aws, daemon: Daemon, directory: string, resources: AsyncDisposableStack) {
    this.aws = aws;
    this.daemon = daemon;
    this.directory = directory;
    this.#resources = resources;
  }

  /** Starts both; the agent's image is in the account's registry then. */
  static async start(options: EcsDaemonOptions = {}): Promise<EcsDaemon> {
    await using resources = new AsyncDisposableStack();
    const directory = await mkdtemp(join(tmpdir(), "skl-ecs-"));
    resources.defer(() => rm(directory, { recursive: true, force: true }));
    const aws = resources.use(await startAws(options.aws));
    const config = join(directory, "config.yaml");
    const given = typeof options.ecs === "function" ? await options.ecs(aws) : options.ecs;
    const ecs = { ...aws.config, agent_ca: join(directory, "agent-ca.pem"), ...given };
    await writeFile(config, JSON.stringify({ ecs })); // JSON is YAML.
    const key = options.leastPrivilege === true ? await leastPrivilege(aws) : aws.credentials;
    const env = { ...awsEnvironment(key), ...options.daemon?.env };
    await pushAgent(config, env);
    const args = ["--backend", "ecs", "--config", config, ...(options.daemon?.args ?? [])];
    const daemon = resources.use(await Daemon.start({ args, env }));
    return new EcsDaemon(aws, daemon, directory, resources.move());
  }

  /** Calls that the account's policies have denied, as `ec2.CreateTags`. */
  get deniedCalls(): string[] {
    return this.aws.calls
      .all()
      .filter(({ error = "" }) => /^(AccessDenied|UnauthorizedOperation)/.test(error))
      .map(({ service, operation }) => `${service}.${operation}`);
  }

  /** Removes every container, ends everything, and deletes what was written. */
  async stop(): Promise<void> {
    await this.#resources.disposeAsync();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/** A user with the documented policy, in an account that enforces policies from now on. */
async function leastPrivilege(aws: Aws): Promise<Aws["credentials"]> {
  const policy = await readFile(join(checkout, "deploy/iam/backend-policy.json"), "utf8");
  const key = aws.iam.addUser("backend", [aws.fillPolicy(policy)]);
  aws.iam.enforced = true;
  return key;
}

/** Credentials by the standard chain, and nothing of the user's. */
function awsEnvironment(key: Aws["credentials"]): Record<string, string> {
  return {
    AWS_ACCESS_KEY_ID: key.accessKeyId,
    AWS_SECRET_ACCESS_KEY: key.secretAccessKey,
    AWS_SESSION_TOKEN: "",
    AWS_CONFIG_FILE: "/dev/null",
    AWS_SHARED_CREDENTIALS_FILE: "/dev/null",
  };
}

async function pushAgent(config: string, env: Readonly<Record<string, string>>): Promise<void> {
  const program = join(checkout, "dist/src/cli/main.js");
  const args = [program, "ecs", "push-agent", "--config", config];
  const { code, text, errorText } = await runCommand(process.execPath, args, {
    env: { ...process.env, ...env },
  });
  if (code !== 0) {
    throw new Error(`sockerless ecs push-agent ended with ${code}: ${text}${errorText}`);
  }
}
