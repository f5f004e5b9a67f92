/** Facts about the account that several checks need, each queried once. */
import { DescribeSecurityGroupsCommand, DescribeSubnetsCommand, type Subnet } from "@aws-sdk/client-ec2";
import { GetNamespaceCommand, type Namespace } from "@aws-sdk/client-servicediscovery";
import { GetCallerIdentityCommand } from "@aws-sdk/client-sts";

import type { EcsConfig, EcsSection } from "../../../common/config/load.ts";
import type { AwsClients } from "../aws/clients.ts";
import { networkTag } from "../tags.ts";

/** The caller according to STS. */
export interface Caller {
  /** `aws`, `aws-cn` or `aws-us-gov`. */
  readonly partition: string;
  readonly account: string;
  readonly arn: string;
}

/** The examined configuration: the section, and whether tasks are prepared. */
export type ExaminedSection = EcsSection & Pick<EcsConfig, "pool">;

/** The account of the backend; each member throws the AwsError of its call. */
export interface Surroundings {
  readonly config: ExaminedSection;
  readonly aws: AwsClients;
  caller(signal: AbortSignal): Promise<Caller>;
  /** The configured subnets. */
  subnets(signal: AbortSignal): Promise<readonly Subnet[]>;
  /** ID of their VPC. */
  vpc(signal: AbortSignal): Promise<string>;
  /** The configured namespace of Cloud Map. */
  namespace(signal: AbortSignal): Promise<Namespace | undefined>;
  /** ID of a security group in the VPC that any sockerless has created for a network; undefined if there is none. */
  groupOfNetwork(signal: AbortSignal): Promise<string | undefined>;
}

/** Creates the facts, without any query yet. */
export function surroundingsOf(config: ExaminedSection, aws: AwsClients): Surroundings {
  const subnets = once(async (abortSignal) => {
    const command = new DescribeSubnetsCommand({ SubnetIds: config.subnets });
    return (await aws.ec2.send(command, { abortSignal })).Subnets ?? [];
  });
  const vpc = async (signal: AbortSignal): Promise<string> => (await subnets(signal))[0]?.VpcId ?? "";
  return {
    config,
    aws,
    caller: once(async (abortSignal) => {
      const { Account = "", Arn = "" } = await aws.sts.send(new GetCallerIdentityCommand({}), {
        abortSignal,
      });
      return { partition: Arn.split(":")[1] ?? "", account: Account, arn: Arn };
    }),
    subnets,
    vpc,
    namespace: once(async (abortSignal) => {
      const command = new GetNamespaceCommand({ Id: config.cloudMapNamespaceId });
      return (await aws.serviceDiscovery.send(command, { abortSignal })).Namespace;
    }),
    groupOfNetwork: once(async (abortSignal) => {
      const Filters = [
        { Name: "vpc-id", Values: [await vpc(abortSignal)] },
        { Name: "tag-key", Values: [networkTag] },
      ];
      const { SecurityGroups = [] } = await aws.ec2.send(
        new DescribeSecurityGroupsCommand({ Filters, MaxResults: 5 }),
        { abortSignal },
      );
      return SecurityGroups[0]?.GroupId;
    }),
  };
}

function once<Value>(ask: (signal: AbortSignal) => Promise<Value>): (signal: AbortSignal) => Promise<Value> {
  let answer: Promise<Value> | undefined;
  return (signal) => (answer ??= ask(signal));
}
