/** All services of the account except ECS, with what they are to one another. */
import { join } from "node:path";

import type { Cloud } from "../cloud.ts";
import type { Context } from "../context.ts";
import type { ServiceHandler } from "../wire/service.ts";
import { DockerRegistry } from "../../common/registry/docker-registry.ts";
import { ecrService } from "./ecr/ecr.ts";
import { imageRegistry } from "./ecr/pulling.ts";
import { EcrFront } from "./ecr/registry-front.ts";
import { EcrState } from "./ecr/state.ts";
import { ec2Service } from "./ec2/ec2.ts";
import { Network } from "./ec2/network.ts";
import { efsService } from "./efs/efs.ts";
import { EfsState } from "./efs/state.ts";
import { logsService } from "./logs/logs.ts";
import { iamService } from "./iam.ts";
import { LogState } from "./logs/state.ts";
import { SecretState } from "./secretsmanager/state.ts";
import { addressesOf } from "./servicediscovery/names.ts";
import { serviceDiscoveryService } from "./servicediscovery/servicediscovery.ts";
import { Registry } from "./servicediscovery/state.ts";
import { serviceQuotasService } from "./service-quotas.ts";
import { stsService } from "./sts/sts.ts";

/** The services' state, for assertions and for what an administrator does by other means than the simulated APIs. */
export interface AwsServices {
  readonly network: Network;
  readonly efs: EfsState;
  readonly cloudMap: Registry;
  readonly logs: LogState;
  readonly ecr: EcrState;
  readonly secrets: SecretState;
}

/** The services, ready to be served. */
export interface StartedServices {
  readonly state: AwsServices;
  readonly handlers: readonly ServiceHandler[];
  /** As ECS reaches them. */
  readonly cloud: Cloud;
}

/**
 * Starts the services.
 *
 * @param vpc its range of IPv4, and whether its subnets have IPv6 alone
 * @param stack what ends them
 */
export async function startServices(
  context: Context,
  { cidr, ipv6 }: { readonly cidr: string; readonly ipv6?: boolean | undefined },
  stack: AsyncDisposableStack,
): Promise<StartedServices> {
  const network = new Network(context, cidr, ipv6);
  const efs = new EfsState(context, network);
  const cloudMap = new Registry(context);
  const logs = new LogState(context);
  const ecr = new EcrState(context);
  const secrets = new SecretState(context);
  const front = new EcrFront(context, ecr, () => DockerRegistry.start(join(context.directory, "registry")));
  await front.listen();
  stack.use(front);
  return {
    state: { network, efs, cloudMap, logs, ecr, secrets },
    handlers: [
      stsService(context),
      iamService(context),
      ec2Service(context, network),
      efsService(context, efs),
      serviceDiscoveryService(context, cloudMap),
      logsService(logs),
      ecrService(context, ecr, front),
      serviceQuotasService(context),
    ],
    cloud: {
      network,
      fileSystems: efs,
      logGroups: logs,
      registry: imageRegistry(context, ecr, front.host),
      secrets,
      names: {
        addressesOf: (name) => {
          const named = network.interfaces().find(({ privateDnsName }) => privateDnsName === name);
          return named === undefined ? addressesOf(cloudMap, name) : [named.privateIpAddress];
        },
      },
    },
  };
}
