/** A simulated AWS, and a sockerless whose containers run as its tasks, all gone at the end. */
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { pushAgentImage } from "../../src/backends/cloud/images/agent-image.ts";
import { sha256Of } from "../../src/backends/images/digest.ts";
import { renderManifest } from "../../src/backends/images/image-manifest-writer.ts";
import { mediaTypes } from "../../src/backends/images/manifest.ts";
import { builtPrograms } from "../../src/common/built-programs.ts";
import { type Aws, type AwsOptions, startAws } from "../simulators/aws/aws.ts";
import type { PolicyDocument } from "../simulators/aws/iam/access.ts";
import { agentsCall, callingAgents } from "./calling-agents.ts";
import { runCommand } from "./command.ts";
import { checkout, Daemon, type DaemonOptions } from "./daemon.ts";
import { busyboxArchiveFile } from "./images.ts";
import { RegistryClient } from "./registry.ts";

type Settings = Readonly<Record<string, unknown>>;

/** Settings of an {@link EcsAccount}. */
export interface EcsAccountOptions {
  readonly aws?: AwsOptions;
  /** Settings of the `ecs:` section that differ from what fits the simulated account, or what makes them in it. */
  readonly ecs?: Settings | ((aws: Aws) => Promise<Settings>);
  /** The backend and its containers may do what the policies in `deploy/iam` say, and no more. */
  readonly leastPrivilege?: boolean;
  /** The checkout of the version whose agent is in the registry; unless said, this one. */
  readonly agentOf?: string;
}

/** Settings of an {@link EcsDaemon}. */
export interface EcsDaemonOptions extends EcsAccountOptions {
  readonly daemon?: DaemonOptions;
}

/** A simulated account, and what a backend that uses it is started with. */
export class EcsAccount implements AsyncDisposable {
  readonly aws: Aws;
  /** Directory of the configuration, and of the authority over the agents: `agent-ca.pem`. */
  readonly directory: string;
  /** Credentials by the standard chain, and nothing of the user's. */
  readonly env: Readonly<Record<string, string>>;
  readonly #resources: AsyncDisposableStack;

  private constructor(
    aws: Aws,
    directory: string,
    env: Readonly<Record<string, string>>,
    resources: AsyncDisposableStack,
  ) {
    this.aws = aws;
    this.directory = directory;
    this.env = env;
    this.#resources = resources;
  }

  /** Arguments of `sockerless backend ecs`. */
  get args(): readonly string[] {
    return ["--config", configIn(this.directory)];
  }

  /** Makes one; the agent's image is in its registry then. */
  static async open(options: EcsAccountOptions = {}): Promise<EcsAccount> {
    await using resources = new AsyncDisposableStack();
    const directory = await mkdtemp(join(tmpdir(), "skl-ecs-"));
    resources.defer(() => rm(directory, { recursive: true, force: true }));
    const aws = resources.use(await startAws(options.aws));
    const config = configIn(directory);
    const given = typeof options.ecs === "function" ? await options.ecs(aws) : options.ecs;
    const isClosed = options.leastPrivilege === true;
    const ways = agentsCall && !("agent_mode" in (given ?? {})) ? await callingAgents(aws) : {};
    const ecs = {
      ...aws.config,
      ...ways,
      agent_ca: join(directory, "agent-ca.pem"),
      efs_iam: isClosed,
      ...given,
    };
    await writeFile(config, JSON.stringify({ ecs })); // JSON is YAML.
    const key = isClosed ? await leastPrivilege(aws) : aws.credentials;
    const env = awsEnvironment(key);
    // Under the documented policies as their reader does it, else without a process for each account.
    await (isClosed || options.agentOf !== undefined
      ? pushAgent(config, env, [], options.agentOf)
      : placeAgent(aws));
    return new EcsAccount(aws, directory, env, resources.move());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}

function configIn(directory: string): string {
  return join(directory, "config.yaml");
}

/** A simulated account and a daemon that uses it. */
export class EcsDaemon implements AsyncDisposable {
  readonly aws: Aws;
  readonly daemon: Daemon;
  /** As {@link EcsAccount.directory}. */
  readonly directory: string;
  readonly #resources: AsyncDisposableStack;

  private constructor(account: EcsAccount, daemon: Daemon, resources: AsyncDisposableStack) {
    this.aws = account.aws;
    this.daemon = daemon;
    this.directory = account.directory;
    this.#resources = resources;
  }

  /** Starts both; the daemon has busybox. */
  static async start(options: EcsDaemonOptions = {}): Promise<EcsDaemon> {
    await using resources = new AsyncDisposableStack();
    const account = resources.use(await EcsAccount.open(options));
    const daemon = resources.use(
      await Daemon.start({
        ...options.daemon,
        args: ["--backend", "ecs", ...account.args, ...(options.daemon?.args ?? [])],
        env: { ...account.env, ...options.daemon?.env },
      }),
    );
    await daemon.ok("load", "--input", await busyboxArchiveFile());
    return new EcsDaemon(account, daemon, resources.move());
  }

  /** Calls that the account's policies have denied, as `ec2.CreateTags`. */
  get deniedCalls(): string[] {
    return deniedCalls(this.aws);
  }

  /** Removes every container, ends everything, and deletes what was written. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}

/** Calls that an account's policies have denied, as `ec2.CreateTags`. */
export function deniedCalls(aws: Aws): string[] {
  return aws.calls
    .all()
    .filter(({ error = "" }) => /^(AccessDenied|UnauthorizedOperation)/.test(error))
    .map(({ service, operation }) => `${service}.${operation}`);
}

/** Gives user, task role and file system the documented policies, in an account that enforces them from now on. */
export async function leastPrivilege(aws: Aws): Promise<Aws["credentials"]> {
  const key = aws.iam.addUser("backend", [await documentedPolicy(aws, "backend-policy.json")]);
  aws.iam.addRole("sockerless-task", {
    trusted: ["ecs-tasks.amazonaws.com"],
    policies: [await documentedPolicy(aws, "task-policy.json")],
  });
  const { fileSystemId } = aws.account.fileSystem;
  aws.services.efs.setPolicy(fileSystemId, await documentedPolicy(aws, "file-system-policy.json"));
  aws.iam.enforced = true;
  return key;
}

/** A policy of `deploy/iam` for an account that has no administrator's role and no service of its own. */
export async function documentedPolicy(aws: Aws, name: string): Promise<ReturnType<Aws["fillPolicy"]>> {
  return aws.fillPolicy(await readFile(join(checkout, "deploy/iam", name), "utf8"), {
    "administrator-role": "administrator",
    "backend-role": "service-backend",
    "state-access-point": "fsap-0123456789abcdef0",
  });
}

/** A policy that allows all but one action. */
export function withoutAction(policy: PolicyDocument, action: string): PolicyDocument {
  const rest = policy.Statement.map((statement) => ({
    ...statement,
    Action: [statement.Action].flat().filter((each) => each !== action),
  }));
  return { ...policy, Statement: rest.filter(({ Action }) => Action.length > 0) };
}

/** Variables for credentials by the standard chain, and nothing of the user's. */
export function awsEnvironment(key: Aws["credentials"]): Record<string, string> {
  return {
    AWS_ACCESS_KEY_ID: key.accessKeyId,
    AWS_SECRET_ACCESS_KEY: key.secretAccessKey,
    AWS_SESSION_TOKEN: "",
    AWS_CONFIG_FILE: "/dev/null",
    AWS_SHARED_CREDENTIALS_FILE: "/dev/null",
  };
}

/** Puts the agent's image into the account's repository, as `sockerless ecs push-agent` does, its layer uncompressed. */
async function placeAgent({ account, credentials, iam, services }: Aws): Promise<void> {
  const administrator =
    iam.principalOf(credentials.accessKeyId) ?? assert.fail("the administrator is unknown");
  const { password } = services.ecr.issueToken(administrator);
  const authorization = `Basic ${Buffer.from(`AWS:${password}`).toString("base64")}`;
  const [host = "", ...path] = account.repositoryUri.split("/");
  const registry = new RegistryClient(host, authorization);
  const repository = path.join("/");
  await pushAgentImage(builtPrograms.agent, "amd64", () => ({
    putProgram: async (tag, layer, config) => {
      const bytes = await readFile(layer.path);
      const blob = { digest: sha256Of(config), size: config.length };
      await registry.pushBlob(repository, { digest: layer.digest, bytes });
      await registry.pushBlob(repository, { digest: blob.digest, bytes: Buffer.from(config) });
      const layers = [{ blob: { digest: layer.digest, size: bytes.length }, compression: undefined }];
      const manifest = Buffer.from(renderManifest(blob, layers));
      await registry.pushManifest(repository, tag, manifest, mediaTypes.ociManifest);
      return { reference: `${account.repositoryUri}@${sha256Of(manifest)}`, isNew: true };
    },
  }));
}

/**
 * Puts the agent's image into the repository of a configuration.
 *
 * @param within as in {@link DaemonOptions}
 * @param version checkout of the version whose agent it is
 */
export async function pushAgent(
  config: string,
  env: Readonly<Record<string, string>>,
  within: readonly string[] = [],
  version = checkout,
): Promise<void> {
  const command = [...within, join(version, "bin/sockerless"), "ecs", "push-agent", "--config", config];
  const [first = "", ...args] = command;
  const { code, text, errorText } = await runCommand(first, args, {
    env: { ...process.env, ...env },
  });
  if (code !== 0) {
    throw new Error(`sockerless ecs push-agent ended with ${code}: ${text}${errorText}`);
  }
}
