/** Clients of AWS, with pacing, retries, logging of request IDs, and converted errors. */
import { CloudWatchLogsClient } from "@aws-sdk/client-cloudwatch-logs";
import { EC2Client } from "@aws-sdk/client-ec2";
import { ECRClient } from "@aws-sdk/client-ecr";
import { ECSClient } from "@aws-sdk/client-ecs";
import { EFSClient } from "@aws-sdk/client-efs";
import { ServiceQuotasClient } from "@aws-sdk/client-service-quotas";
import { ServiceDiscoveryClient } from "@aws-sdk/client-servicediscovery";
import { STSClient, type STSClientConfig } from "@aws-sdk/client-sts";
import { defaultProvider } from "@aws-sdk/credential-provider-node";

import type { Clock } from "../../../common/clock.ts";
import { unavailable } from "../../../common/errors.ts";
import type { Logger } from "../../../common/logger.ts";
import { version } from "../../../common/version.ts";
import { type AwsCaller, createCaller, type SdkClient } from "./caller.ts";
import { connectionsTo } from "./connections.ts";
import type { AwsServiceName } from "./errors.ts";
import type { RateName } from "./rates.ts";
import type { Rate } from "../../cloud/calls/token-bucket.ts";

type RequestSigner = Exclude<NonNullable<STSClientConfig["signer"]>, () => unknown>;

/** Settings of the clients. */
export interface AwsOptions {
  readonly region: string;
  /** One endpoint for all services; default: AWS's own. */
  readonly endpoint: string | undefined;
  /** The account's rates, if different from AWS's defaults. */
  readonly rates: Readonly<Partial<Record<RateName, Rate>>>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * One service. `send` takes the SDK's commands; what it throws is an {@link AwsError} (or the reason of an
 * `abortSignal`, which also ends the wait for a rate).
 */
export type AwsService<Client extends SdkClient> = Pick<Client, "send">;

/** A call signed by query parameters. */
export interface SignedQuery {
  readonly query: Readonly<Record<string, string>>;
  /** Signed headers. */
  readonly headers: Readonly<Record<string, string>>;
}

/** All services, with credentials from the SDK's default chain. */
export interface AwsClients {
  readonly ecs: AwsService<ECSClient>;
  readonly logs: AwsService<CloudWatchLogsClient>;
  readonly efs: AwsService<EFSClient>;
  readonly serviceDiscovery: AwsService<ServiceDiscoveryClient>;
  readonly ecr: AwsService<ECRClient>;
  /** ECR of a region, for registries other than the configured one. */
  ecrIn(region: string): AwsService<ECRClient>;
  readonly ec2: AwsService<EC2Client>;
  readonly serviceQuotas: AwsService<ServiceQuotasClient>;
  readonly sts: AwsService<STSClient>;
  /** A service used by few commands, which load its client. */
  another<Client extends SdkClient>(
    name: AwsServiceName,
    create: (settings: ClientSettings) => Client,
  ): AwsService<Client>;
  /**
   * STS with calls that another party has signed in its own name, as queries of GET. Neither paced nor retried.
   *
   * @param sign receives the host of STS, with its port unless that is the protocol's default
   */
  stsSignedBy(sign: (host: string) => Promise<SignedQuery>): STSClient;
  /** Aborts calls in progress and refuses others. */
  abandon(): void;
  /** The same, and closes idle connections. */
  close(): void;
}

/** The most regions whose registries' clients are kept: images' names say whichever they like. */
const mostRegions = 32;

/** Creates the clients without any calls. */
export function createAwsClients(options: AwsOptions): AwsClients {
  const abandoned = new AbortController();
  const abandon = (): void => abandoned.abort(unavailable("the backend is shutting down"));
  const caller = createCaller({ ...options, signal: abandoned.signal });
  const credentials = defaultProvider({
    clientConfig: { requestHandler: connectionsTo(undefined) },
    ignoreCache: true, // The file may have been rewritten since.
  });
  // One chain for all clients. The services that it calls, such as IAM Identity Center, are behind the same proxies.
  const settings = () => clientSettings(options, credentials);
  const clients = new Set<SdkClient>();
  const service = <Client extends SdkClient>(name: AwsServiceName, client: Client): AwsService<Client> => {
    clients.add(client);
    return paced(name, client, caller);
  };
  const ecr = service("ecr", new ECRClient(settings()));
  const elsewhere = new Map<string, ECRClient>();
  return {
    ecs: service("ecs", new ECSClient(settings())),
    logs: service("logs", new CloudWatchLogsClient(settings())),
    efs: service("efs", new EFSClient(settings())),
    serviceDiscovery: service("servicediscovery", new ServiceDiscoveryClient(settings())),
    ecr,
    ecrIn(region) {
      if (region === options.region) {
        return ecr;
      }
      const client = elsewhere.get(region) ?? new ECRClient({ ...settings(), region });
      elsewhere.delete(region);
      elsewhere.set(region, client); // As the latest.
      const [[oldest, unused] = []] = elsewhere;
      if (elsewhere.size > mostRegions && oldest !== undefined && unused !== undefined) {
        elsewhere.delete(oldest);
        clients.delete(unused);
        unused.destroy();
      }
      return service("ecr", client);
    },
    ec2: service("ec2", new EC2Client(settings())),
    serviceQuotas: service("service-quotas", new ServiceQuotasClient(settings())),
    sts: service("sts", new STSClient(settings())),
    another: (name, create) => service(name, create(settings())),
    stsSignedBy(sign) {
      const signer: RequestSigner = {
        async sign(request) {
          const { hostname, port } = request;
          const signed = await sign(port === undefined ? hostname : `${hostname}:${port}`);
          return Object.assign(request, { method: "GET", body: undefined, ...signed });
        },
      };
      const unused = { accessKeyId: "unused", secretAccessKey: "unused" };
      return new STSClient({ ...settings(), signer, credentials: unused });
    },
    abandon,
    close() {
      abandon();
      for (const client of clients) {
        client.destroy();
      }
    },
  };
}

/** Common settings of the SDK's clients. */
export type ClientSettings = ReturnType<typeof clientSettings>;

function clientSettings({ region, endpoint }: AwsOptions, credentials: ReturnType<typeof defaultProvider>) {
  return {
    region,
    credentials,
    ...(endpoint === undefined ? {} : { endpoint, disableHostPrefix: true }),
    customUserAgent: `sockerless/${version}`,
    maxAttempts: 1, // The caller retries, within the rates of all calls.
    requestHandler: connectionsTo(endpoint),
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
