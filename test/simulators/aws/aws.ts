/** The simulated AWS: one account in one region, which speaks AWS's protocols and really runs its tasks. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { CallLog } from "../common/calls.ts";
import { SimulatedClock } from "../common/clock.ts";
import type { Context } from "./context.ts";
import { Faults } from "../common/faults.ts";
import type { AccessKey, PolicyDocument } from "./iam/access.ts";
import { Iam } from "./iam/iam.ts";
import { type Delays, defaultQuotas, noDelays, type Quotas } from "./quotas.ts";
import { Rates } from "../common/rates.ts";
import { SimulatedCloud } from "../common/simulated-cloud.ts";
import { type Account, hostOf, prepareAccount } from "./account.ts";
import { Machine } from "../common/machine/machine.ts";
import { Ecs, type EcsOptions } from "./services/ecs/ecs.ts";
import { publishedRates } from "./services/rates.ts";
import { type AwsServices, startServices } from "./services/services.ts";
import { defaultSwitches, type Switches } from "./switches.ts";
import { WireServer } from "./wire/server.ts";

/** Settings of a simulated account. */
export interface AwsOptions {
  readonly region?: string;
  readonly quotas?: Partial<Quotas>;
  readonly delays?: Partial<Delays>;
  readonly switches?: Partial<Switches>;
  /** Whether tasks only go through the motions, with no machine behind them: to count calls with thousands of tasks. */
  readonly lightweight?: boolean;
  /** The VPC's range, for an account with lightweight tasks; other accounts take one that is free on this machine. */
  readonly cidr?: string;
  /** Whether the VPC's subnets have IPv6 alone. */
  readonly ipv6?: boolean;
  readonly ecs?: EcsOptions;
}

/** A running simulator. */
export class Aws extends SimulatedCloud<Context> {
  /** `http://127.0.0.1:port`, for all services. */
  readonly endpoint: string;
  /** Names and IDs of the fresh account's contents. */
  readonly account: Account;
  readonly services: AwsServices;
  /** The tasks, and the events in their lives that no call of the API causes. */
  readonly ecs: Ecs;

  constructor(
    endpoint: string,
    context: Context,
    account: Account,
    services: AwsServices,
    ecs: Ecs,
    stack: AsyncDisposableStack,
  ) {
    super(context, stack);
    this.endpoint = endpoint;
    this.account = account;
    this.services = services;
    this.ecs = ecs;
  }

  /** The `ecs:` section of a configuration that uses this account. */
  get config(): Record<string, string | readonly string[]> {
    const { account, region, endpoint, services } = this;
    return {
      region,
      endpoint,
      cluster: account.cluster,
      subnets: account.subnetIds,
      security_groups: [account.securityGroupId],
      execution_role_arn: account.executionRoleArn,
      task_role_arn: account.taskRoleArn,
      efs_filesystem_id: account.fileSystem.fileSystemId,
      efs_security_group_id: account.efsSecurityGroupId,
      log_group: account.logGroup,
      cloud_map_namespace_id: account.namespace.id,
      ecr_repository: account.repositoryUri,
      agent_ingress: services.network.subnets().map(hostOf),
    };
  }

  get region(): string {
    return this.context.region;
  }

  get accountId(): string {
    return this.context.accountId;
  }

  get quotas(): Quotas {
    return this.context.quotas;
  }

  get iam(): Iam {
    return this.context.iam;
  }

  /** Keys of a user that may do everything. */
  get credentials(): AccessKey {
    return this.context.iam.administrator;
  }

  /**
   * A policy document for this account, from one with the placeholders of `deploy/iam/README.md`.
   *
   * @param more values of placeholders that a fresh account has nothing for
   */
  fillPolicy(text: string, more: Readonly<Record<string, string>> = {}): PolicyDocument {
    return this.fillDocument(text, more) as PolicyDocument;
  }

  /** As {@link fillPolicy}, of any JSON document of `deploy`. */
  fillDocument(text: string, more: Readonly<Record<string, string>> = {}): unknown {
    const { account, accountId, region, services } = this;
    const nameOf = (arn: string): string => arn.slice(arn.lastIndexOf("/") + 1);
    const values: Record<string, string> = {
      partition: "aws",
      region,
      account: accountId,
      cluster: account.cluster,
      "execution-role": nameOf(account.executionRoleArn),
      "task-role": nameOf(account.taskRoleArn),
      vpc: services.network.vpcId,
      "efs-filesystem": account.fileSystem.fileSystemId,
      "efs-security-group": account.efsSecurityGroupId,
      "log-group": account.logGroup,
      "cloud-map-namespace": account.namespace.id,
      "hosted-zone": account.namespace.hostedZoneId,
      "ecr-repository": nameOf(account.repositoryUri),
      ...more,
    };
    const filled = text.replace(/<([a-z-]+)>/g, (placeholder, name: string) => values[name] ?? placeholder);
    return JSON.parse(filled) as unknown;
  }

  /** Every line that tasks have logged so far. */
  logged(): string[] {
    const { logs } = this.services;
    const streams = [...logs.group(this.account.logGroup).streams.values()];
    return streams.flatMap((stream) => logs.readable(stream).map(({ message }) => message));
  }

  /** The configuration with which the SDK's clients are constructed. */
  get clientConfig(): {
    readonly endpoint: string;
    readonly region: string;
    readonly credentials: AccessKey;
  } {
    return { endpoint: this.endpoint, region: this.region, credentials: this.credentials };
  }

  /** Environment variables by which a process finds this account, and no other. */
  environmentFor({ accessKeyId, secretAccessKey }: AccessKey = this.credentials): Record<string, string> {
    return {
      AWS_ENDPOINT_URL: this.endpoint,
      AWS_REGION: this.region,
      AWS_ACCESS_KEY_ID: accessKeyId,
      AWS_SECRET_ACCESS_KEY: secretAccessKey,
      AWS_EC2_METADATA_DISABLED: "true",
      AWS_CONFIG_FILE: "/dev/null",
      AWS_SHARED_CREDENTIALS_FILE: "/dev/null",
    };
  }
}

/** Starts a simulated account. */
export async function startAws(options: AwsOptions = {}): Promise<Aws> {
  await using stack = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), "sockerless-aws-"));
  stack.defer(() => rm(directory, { recursive: true }));
  const clock = new SimulatedClock();
  stack.defer(() => clock.stop());
  const accountId = "123456789012";
  const region = options.region ?? "us-east-1";
  const context: Context = {
    accountId,
    region,
    clock,
    calls: new CallLog(),
    faults: new Faults(),
    rates: new Rates(clock, publishedRates(region)),
    quotas: { ...defaultQuotas(), ...options.quotas },
    delays: { ...noDelays(), ...options.delays },
    switches: defaultSwitches(),
    iam: new Iam(accountId),
    directory,
  };
  const machine =
    options.lightweight === true || options.cidr !== undefined
      ? undefined
      : stack.use(await Machine.start({ directory, sleep: (ms, signal) => clock.sleep(ms, signal) }));
  const cidr = machine?.vpc.cidr ?? options.cidr ?? "10.0.0.0/16";
  const { state, handlers, cloud } = await startServices(context, { cidr, ipv6: options.ipv6 }, stack);
  const account = prepareAccount(context, state, cloud);
  const ecs = stack.use(await Ecs.start(context, cloud, machine, options.ecs));
  ecs.clusters.add(account.cluster);
  // The switches are set last, because a fresh account's contents were made long ago and are known everywhere.
  Object.assign(context.switches, options.switches);
  const server = new WireServer(context);
  for (const handler of [...handlers, ecs.handler]) {
    server.add(handler);
  }
  const endpoint = await server.listen();
  stack.defer(() => server.close());
  return new Aws(endpoint, context, account, state, ecs, stack.move());
}
