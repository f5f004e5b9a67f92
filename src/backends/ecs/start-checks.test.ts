import assert from "node:assert/strict";
import { describe, it } from "node:test";

import type { EcsSection } from "../../common/config/load.ts";
import type { AwsClients } from "./aws/clients.ts";
import { builtPrograms } from "../../common/built-programs.ts";
import { agentImageId, agentTag } from "../cloud/images/agent-image.ts";
import { checkSurroundings } from "../cloud/upkeep/start-checks.ts";
import { ecsChecks } from "./start-checks.ts";
import { capturedLogger } from "../cloud/testing/captured-logger.ts";

/** The processor that this machine's agent is built for. */
const processor = process.arch === "arm64" ? "arm64" : "amd64";

/** AWS as it is where nothing is wrong, by the names of the commands. */
const sound: Readonly<Record<string, object>> = {
  GetCallerIdentityCommand: { Account: "123456789012", Arn: "arn:aws:iam::123456789012:role/r" },
  DescribeClustersCommand: { clusters: [{ status: "ACTIVE", capacityProviders: ["FARGATE_SPOT"] }] },
  DescribeSubnetsCommand: {
    Subnets: [
      { SubnetId: "subnet-1", VpcId: "vpc-1" },
      { SubnetId: "subnet-2", VpcId: "vpc-1" },
    ],
  },
  DescribeSecurityGroupsCommand: {
    SecurityGroups: [{ IpPermissions: [{ IpProtocol: "tcp", FromPort: 9111, ToPort: 9111 }] }],
  },
  BatchGetImageCommand: imageOf(await agentImageId(builtPrograms.agent, processor)),
  DescribeMountTargetsCommand: { MountTargets: [{ SubnetId: "subnet-1" }, { SubnetId: "subnet-2" }] },
  DescribeLogGroupsCommand: { logGroups: [{ logGroupName: "/sockerless/containers" }] },
};

/** The agent's image as ECR has it; undefined: an index of several. */
function imageOf(digest: string | undefined): object {
  const manifest = digest === undefined ? { manifests: [] } : { config: { digest } };
  return { images: [{ imageManifest: JSON.stringify(manifest) }], failures: [] };
}

const repository = "123456789012.dkr.ecr.us-east-1.amazonaws.com/team/images";

const configured = {
  region: "us-east-1",
  cluster: "main",
  capacityProvider: "FARGATE",
  subnets: ["subnet-1", "subnet-2"],
  securityGroups: ["sg-1"],
  efsFilesystemId: "fs-1",
  logGroup: "/sockerless/containers",
  efsSecurityGroupId: "sg-efs",
  ecrRepository: repository,
  architecture: processor,
};

/** The warnings of a start where AWS answers so; an `Error` is what it refuses with. */
async function warningsOf(
  answers: Readonly<Record<string, object>>,
  config: Readonly<Record<string, unknown>> = {},
): Promise<string[]> {
  const client = {
    send: async (command: object) => {
      const { name } = command.constructor;
      const answer = { ...sound, ...answers }[name];
      if (answer === undefined || answer instanceof Error) {
        throw answer ?? new Error(`${name} is not known here`);
      }
      return answer;
    },
  };
  const aws = Object.fromEntries(
    ["sts", "ecs", "ec2", "ecr", "efs", "logs"].map((service) => [service, client]),
  ) as unknown as AwsClients;
  const { logger, warnings } = capturedLogger();
  const checks = ecsChecks({ ...configured, ...config } as unknown as EcsSection, aws, logger);
  await checkSurroundings(checks, logger, new AbortController().signal);
  return warnings();
}

const group = (permission: object) => ({
  DescribeSecurityGroupsCommand: { SecurityGroups: [{ IpPermissions: [permission] }] },
});

const closed =
  "none of ecs.security_groups lets port 9111 in: agents cannot be reached, and no start will succeed";

describe("looking at what is configured", () => {
  it("warns of nothing where all is there", async () => {
    assert.deepEqual(await warningsOf({}), []);
  });

  for (const [what, answers, config, expected] of [
    [
      "a cluster that is not there",
      { DescribeClustersCommand: { clusters: [], failures: [{ reason: "MISSING" }] } },
      {},
      ["there is no active cluster main in us-east-1: no container will start"],
    ],
    [
      "a cluster that is being deleted",
      { DescribeClustersCommand: { clusters: [{ status: "INACTIVE" }] } },
      {},
      ["there is no active cluster main in us-east-1: no container will start"],
    ],
    [
      "a capacity provider that the cluster has not",
      { DescribeClustersCommand: { clusters: [{ status: "ACTIVE", capacityProviders: ["FARGATE"] }] } },
      { capacityProvider: "FARGATE_SPOT" },
      ["the cluster main has no capacity provider FARGATE_SPOT: no container will start"],
    ],
    ["nothing where the cluster has the capacity provider", {}, { capacityProvider: "FARGATE_SPOT" }, []],
    [
      "subnets of several networks",
      { DescribeSubnetsCommand: { Subnets: [{ VpcId: "vpc-1" }, { VpcId: "vpc-2" }] } },
      {},
      ["ecs.subnets are not all of one VPC: no container will start"],
    ],
    [
      "security groups that do not let the agents' port in",
      group({ IpProtocol: "tcp", FromPort: 443, ToPort: 9110 }),
      {},
      [closed],
    ],
    [
      "security groups that let the port in for another protocol",
      group({ IpProtocol: "udp", FromPort: 9111, ToPort: 9111 }),
      {},
      [closed],
    ],
    ["nothing where a group lets everything in", group({ IpProtocol: "-1" }), {}, []],
    [
      "nothing where a group lets a range in",
      group({ IpProtocol: "tcp", FromPort: 0, ToPort: 65_535 }),
      {},
      [],
    ],
    [
      "subnets without a mount target",
      { DescribeMountTargetsCommand: { MountTargets: [{ SubnetId: "subnet-2" }] } },
      {},
      [
        "the file system fs-1 has no mount target in subnet-1: unless another subnet of the same zone has one, containers with volumes will not start there",
      ],
    ],
    [
      "a log group that only begins with the name",
      { DescribeLogGroupsCommand: { logGroups: [{ logGroupName: "/sockerless/containers-of-others" }] } },
      {},
      ["there is no log group /sockerless/containers in us-east-1: no container will start"],
    ],
    [
      "subnets that have IPv6 alone, beside others",
      {
        DescribeSubnetsCommand: {
          Subnets: [
            { SubnetId: "subnet-1", VpcId: "vpc-1", Ipv6Native: false },
            { SubnetId: "subnet-2", VpcId: "vpc-1", Ipv6Native: true },
          ],
        },
      },
      {},
      [
        "ecs.subnets names subnets with IPv6 alone (subnet-2) beside others: containers of the two kinds will not reach one another",
      ],
    ],
    [
      "subnets that have IPv6 alone, and a repository of IPv4",
      {
        DescribeSubnetsCommand: { Subnets: [{ SubnetId: "subnet-1", VpcId: "vpc-1", Ipv6Native: true }] },
      },
      {},
      [
        `ecs.subnets names subnets with IPv6 alone (subnet-1), and tasks there do not reach ${repository}: name the repository in ecs.ecr_repository as <account>.dkr-ecr.<region>.on.aws/<name>`,
      ],
    ],
    [
      "an agent's image that nobody has put into the repository",
      { BatchGetImageCommand: { images: [], failures: [{ failureCode: "ImageNotFound" }] } },
      {},
      [
        `the agent's image ${repository}:${agentTag(processor)} is not there: run \`sockerless ecs push-agent\`, until then no container will start`,
      ],
    ],
    [
      "an agent's image of another build under the tag of this version",
      { BatchGetImageCommand: imageOf(`sha256:${"0".repeat(64)}`) },
      {},
      [
        `the agent's image ${repository}:${agentTag(processor)} is of another build than this backend: run \`sockerless ecs push-agent\``,
      ],
    ],
    ["no image that has no ID to compare", { BatchGetImageCommand: imageOf(undefined) }, {}, []],
    [
      "no image for another processor than the agent that is here",
      { BatchGetImageCommand: imageOf(`sha256:${"0".repeat(64)}`) },
      { architecture: process.arch === "x64" ? "arm64" : "amd64" },
      [],
    ],
    [
      "nothing where the agent comes from elsewhere",
      { BatchGetImageCommand: new Error("asked") },
      { agentImage: "registry.example/agent" },
      [],
    ],
    [
      "what cannot be looked at, and looks at the rest",
      {
        GetCallerIdentityCommand: new Error("no credentials"),
        DescribeClustersCommand: new Error("denied"),
        DescribeSubnetsCommand: new Error("no such subnet"),
        DescribeSecurityGroupsCommand: new Error("no such group"),
        DescribeMountTargetsCommand: new Error("no such file system"),
        DescribeLogGroupsCommand: { logGroups: [] },
        BatchGetImageCommand: new Error("no such repository"),
      },
      {},
      [
        "cannot look at the agent's image: no such repository",
        "cannot look at the file system's security group: no such group",
        "cannot look at the caller's identity: no credentials",
        "cannot look at the cluster: denied",
        "cannot look at the file system: no such file system",
        "cannot look at the security groups: no such group",
        "cannot look at the subnets: no such subnet",
        "there is no log group /sockerless/containers in us-east-1: no container will start",
      ],
    ],
  ] as const) {
    it(`warns of ${what}`, async () => {
      assert.deepEqual(new Set(await warningsOf(answers, config)), new Set<string>(expected));
    });
  }

  it("does not ask for a file system that is not configured", async () => {
    const silent = { DescribeMountTargetsCommand: new Error("asked") };
    assert.deepEqual(await warningsOf(silent, { efsFilesystemId: undefined }), []);
  });

  it("says whose account it is", async () => {
    const sts = { send: async () => ({ Account: "123456789012", Arn: "arn:aws:iam::123456789012:role/r" }) };
    const failing = { send: () => Promise.reject(new Error("not asked here")) };
    const aws = { sts, ecs: failing, ec2: failing, efs: failing, logs: failing } as unknown as AwsClients;
    const { logger, lines } = capturedLogger();
    await checkSurroundings(ecsChecks({} as EcsSection, aws, logger), logger, new AbortController().signal);
    const told = lines.filter(({ level }) => level === "info").map(({ msg }) => msg);
    assert.deepEqual(told, ["AWS account 123456789012 as arn:aws:iam::123456789012:role/r"]);
  });

  it("ends with the backend, though AWS has not answered", async () => {
    const silent = {
      send: (_command: object, { abortSignal }: { readonly abortSignal: AbortSignal }) =>
        new Promise((_resolve, reject) => {
          abortSignal.addEventListener("abort", () => reject(abortSignal.reason as Error));
        }),
    };
    const aws = { sts: silent, ecs: silent, ec2: silent, efs: silent, logs: silent } as unknown as AwsClients;
    const config = { cluster: "c", subnets: [], securityGroups: [], efsFilesystemId: "fs-1" };
    const { logger, warnings } = capturedLogger();
    const closing = new AbortController();
    const looks = ecsChecks(config as unknown as EcsSection, aws, logger);
    const checks = checkSurroundings(looks, logger, closing.signal);
    closing.abort(new Error("shutting down"));
    await checks;
    assert.deepEqual(warnings(), []);
  });
});
