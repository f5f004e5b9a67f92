/** The clients of AWS: paced, repeated, logged with AWS's request IDs, their errors converted. */
import { CloudWatchLogsClient } from "@aws-sdk/client-cloudwatch-logs";
import { EC2Client } from "@aws-sdk/client-ec2";
import { ECRClient } from "@aws-sdk/client-ecr";
import { ECSClient } from "@aws-sdk/client-ecs";
import { EFSClient } from "@aws-sdk/client-efs";
import { ServiceDiscoveryClient } from "@aws-sdk/client-servicediscovery";
import { STSClient } from "@aws-sdk/client-sts";

import type { Clock } from "../../../common/clock.ts";
import { unavailable } from "../../../common/errors.ts";
import type { Logger } from "../../../common/logger.ts";
import { version } from "../../../common/version.ts";
import { type AwsCaller, createCaller, type SdkClient } from "./caller.ts";
import type { AwsServiceName } from "./errors.ts";
import type { RateName } from "./rates.ts";
import type { Rate } from "./token-bucket.ts";

/** How AWS is reached. */
export interface AwsOptions {
  readonly region: string;
  /** One address for all services; undefined: AWS's own. */
  readonly endpoint: string | undefined;
  /** Tasks are started on Spot capacity, whose launches have a rate of their own. */
  readonly spot: boolean;
  /** Where the account's rates differ from AWS's defaults. */
  readonly rates: Readonly<Partial<Record<RateName, Rate>>>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * One service. `send` takes the SDK's commands; what it throws is an {@link AwsError} (or the reason of an
 * `abortSignal`, which also ends the wait for a rate).
 */
export type AwsService<Client extends SdkClient> = Pick<Client, "send">;

/** All services. Credentials come from the SDK's standard chain. */
export interface AwsClients {
  readonly ecs: AwsService<ECSClient>;
  readonly logs: AwsService<CloudWatchLogsClient>;
  readonly efs: AwsService<EFSClient>;
  readonly serviceDiscovery: AwsService<ServiceDiscoveryClient>;
  readonly ecr: AwsService<ECRClient>;
  readonly ec2: AwsService<EC2Client>;
  readonly sts: AwsService<STSClient>;
  /** Ends the calls that are under way, and refuses others. */
  abandon(): void;
  /** The same, and ends idle connections. */
  close(): void;
}

/** A call that AWS does not answer within this time is repeated. */
const requestTimeoutMs = 30_000;
const connectTimeoutMs = 5_000;
const mostSockets = 64;

/** Makes the clients; nothing is called yet. */
export function createAwsClients(options: AwsOptions): AwsClients {
  const abandoned = new AbortController();
  const abandon = (): void => abandoned.abort(unavailable("the backend is shutting down"));
  const caller = createCaller({ ...options, signal: abandoned.signal });
  const settings = {
    region: options.region,
    ...(options.endpoint === undefined ? {} : { endpoint: options.endpoint, disableHostPrefix: true }),
    customUserAgent: `sockerless/${version}`,
    maxAttempts: 1, // The caller repeats, at the pace of all calls together.
    requestHandler: {
      connectionTimeout: connectTimeoutMs,
      requestTimeout: requestTimeoutMs,
      throwOnRequestTimeout: true,
      httpAgent: { maxSockets: mostSockets },
      httpsAgent: { maxSockets: mostSockets },
    },
  };
  const clients: SdkClient[] = [];
  const service = <Client extends SdkClient>(name: AwsServiceName, client: Client): AwsService<Client> => {
    clients.push(client);
    return paced(name, client, caller);
  };
  return {
    ecs: service("ecs", new ECSClient(settings)),
    logs: service("logs", new CloudWatchLogsClient(settings)),
    efs: service("efs", new EFSClient(settings)),
    serviceDiscovery: service("servicediscovery", new ServiceDiscoveryClient(settings)),
    ecr: service("ecr", new ECRClient(settings)),
    ec2: service("ec2", new EC2Client(settings)),
    sts: service("sts", new STSClient(settings)),
    abandon,
    close() {
      abandon();
      for (const client of clients) {
        client.destroy();
      }
    },
  };
}

/** The SDK's `send` is overloaded for callbacks, which nobody uses here; its promises keep their types. */
function paced<Client extends SdkClient>(
  service: AwsServiceName,
  client: Client,
  caller: AwsCaller,
): AwsService<Client> {
  return {
    send: (command: never, options?: { abortSignal?: AbortSignal }) =>
      caller(service, client, command, options?.abortSignal),
  } as unknown as AwsService<Client>;
}
