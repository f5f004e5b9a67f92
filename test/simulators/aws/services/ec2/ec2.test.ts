import assert from "node:assert/strict";
import { test } from "node:test";

import {
  AuthorizeSecurityGroupIngressCommand,
  CreateSecurityGroupCommand,
  DeleteSecurityGroupCommand,
  DescribeRouteTablesCommand,
  DescribeSecurityGroupsCommand,
  DescribeSubnetsCommand,
  EC2Client,
  type IpPermission,
  RevokeSecurityGroupIngressCommand,
} from "@aws-sdk/client-ec2";

import { type Aws, startAws } from "../../aws.ts";
import { allLag } from "../../switches.ts";

function clientOf(aws: Aws): EC2Client {
  return new EC2Client({ ...aws.clientConfig, maxAttempts: 1 });
}

async function createGroup(aws: Aws, name: string): Promise<string> {
  const { GroupId } = await clientOf(aws).send(
    new CreateSecurityGroupCommand({
      GroupName: name,
      Description: "a network",
      VpcId: aws.account.vpcId,
      TagSpecifications: [
        { ResourceType: "security-group", Tags: [{ Key: "sockerless-network", Value: name }] },
      ],
    }),
  );
  assert.ok(GroupId);
  return GroupId;
}

const port = (number: number) => ({ IpProtocol: "tcp", FromPort: number, ToPort: number });

test("a fresh account has two subnets in two zones", async () => {
  await using aws = await startAws({ lightweight: true });
  const { Subnets = [] } = await clientOf(aws).send(
    new DescribeSubnetsCommand({ SubnetIds: [...aws.account.subnetIds] }),
  );
  assert.deepEqual(
    Subnets.map(({ CidrBlock, AvailabilityZone }) => ({ CidrBlock, AvailabilityZone })),
    [
      { CidrBlock: "10.0.0.0/17", AvailabilityZone: "us-east-1a" },
      { CidrBlock: "10.0.128.0/17", AvailabilityZone: "us-east-1b" },
    ],
  );
});

test("a dry run tells whether a call would be allowed, and changes nothing", async () => {
  await using aws = await startAws({ lightweight: true });
  const GroupId = await createGroup(aws, "web");
  const dryRuns = (ec2: EC2Client) => [
    () => ec2.send(new DescribeSubnetsCommand({ DryRun: true })),
    () => ec2.send(new DeleteSecurityGroupCommand({ GroupId, DryRun: true })),
    () =>
      ec2.send(
        new CreateSecurityGroupCommand({
          GroupName: "other",
          Description: "x",
          VpcId: aws.account.vpcId,
          DryRun: true,
        }),
      ),
    () =>
      ec2.send(
        new AuthorizeSecurityGroupIngressCommand({
          GroupId,
          IpPermissions: [{ ...port(1), IpRanges: [{ CidrIp: "10.0.0.0/8" }] }],
          DryRun: true,
        }),
      ),
  ];
  const before = JSON.stringify(aws.services.network.groups.all());
  for (const dryRun of dryRuns(clientOf(aws))) {
    await assert.rejects(dryRun(), { name: "DryRunOperation" });
  }
  const credentials = aws.iam.addUser("nobody", []);
  aws.iam.enforced = true;
  for (const dryRun of dryRuns(new EC2Client({ ...aws.clientConfig, credentials, maxAttempts: 1 }))) {
    await assert.rejects(dryRun(), { name: "UnauthorizedOperation" });
  }
  assert.equal(JSON.stringify(aws.services.network.groups.all()), before);
});

test("a subnet's way out is told by its route table, or by the main one", async () => {
  await using aws = await startAws({ lightweight: true });
  const { network } = aws.services;
  const [subnetId = ""] = aws.account.subnetIds;
  network.routeTables = [
    ...network.routeTables,
    {
      routeTableId: "rtb-0123456789abcdef0",
      isMain: false,
      subnetIds: [subnetId],
      routes: [{ destination: "0.0.0.0/0", gateway: "igw-1", isBlackhole: true }],
    },
  ];
  const tables = async (Name: string, value: string) =>
    (await clientOf(aws).send(new DescribeRouteTablesCommand({ Filters: [{ Name, Values: [value] }] })))
      .RouteTables;
  const [own, ...others] = (await tables("association.subnet-id", subnetId)) ?? [];
  assert.deepEqual(others, []);
  assert.deepEqual(own?.Routes, [
    { DestinationCidrBlock: "0.0.0.0/0", GatewayId: "igw-1", State: "blackhole" },
  ]);
  const [main] = (await tables("association.main", "true")) ?? [];
  assert.match(main?.Routes?.[1]?.NatGatewayId ?? "", /^nat-/);
});

test("a group is found by its tag, with its rules in permissions", async () => {
  await using aws = await startAws({ lightweight: true });
  const groupId = await createGroup(aws, "web");
  await createGroup(aws, "other");
  await clientOf(aws).send(
    new AuthorizeSecurityGroupIngressCommand({
      GroupId: groupId,
      IpPermissions: [
        {
          ...port(9111),
          IpRanges: [{ CidrIp: "10.0.0.1/32", Description: "frontend" }],
          UserIdGroupPairs: [{ GroupId: groupId }],
        },
      ],
    }),
  );
  const { SecurityGroups = [] } = await clientOf(aws).send(
    new DescribeSecurityGroupsCommand({ Filters: [{ Name: "tag:sockerless-network", Values: ["we?"] }] }),
  );
  assert.equal(SecurityGroups.length, 1);
  const [found] = SecurityGroups;
  assert.equal(found?.GroupName, "web");
  assert.deepEqual(found.Tags, [{ Key: "sockerless-network", Value: "web" }]);
  assert.deepEqual(found.IpPermissions, [
    {
      ...port(9111),
      IpRanges: [{ CidrIp: "10.0.0.1/32", Description: "frontend" }],
      Ipv6Ranges: [],
      PrefixListIds: [],
      UserIdGroupPairs: [{ GroupId: groupId, UserId: aws.accountId }],
    },
  ]);
  assert.deepEqual(found.IpPermissionsEgress?.[0]?.IpRanges, [{ CidrIp: "0.0.0.0/0" }]);
});

test("a rule that exists is refused, and none of its call's rules is added", async () => {
  await using aws = await startAws({ lightweight: true });
  const groupId = await createGroup(aws, "web");
  const authorize = (...ports: number[]) =>
    clientOf(aws).send(
      new AuthorizeSecurityGroupIngressCommand({
        GroupId: groupId,
        IpPermissions: ports.map((number) => ({ ...port(number), IpRanges: [{ CidrIp: "10.0.0.0/8" }] })),
      }),
    );
  await authorize(80);
  await assert.rejects(authorize(81, 80), { name: "InvalidPermission.Duplicate" });
  assert.deepEqual(
    aws.services.network
      .rulesOf([groupId])
      .filter(({ direction }) => direction === "ingress")
      .map(({ fromPort }) => fromPort),
    [80],
  );
});

test("bits of a range that lie outside its mask are dropped", async () => {
  await using aws = await startAws({ lightweight: true });
  const groupId = await createGroup(aws, "web");
  const authorize = () =>
    clientOf(aws).send(
      new AuthorizeSecurityGroupIngressCommand({
        GroupId: groupId,
        IpPermissions: [{ ...port(80), IpRanges: [{ CidrIp: "10.1.2.3/16" }] }],
      }),
    );
  const { SecurityGroupRules = [] } = await authorize();
  assert.equal(SecurityGroupRules[0]?.CidrIpv4, "10.1.0.0/16");
  await assert.rejects(authorize(), { name: "InvalidPermission.Duplicate" });
});

test("a group has at most sixty rules in a direction", async () => {
  await using aws = await startAws({ lightweight: true });
  const groupId = await createGroup(aws, "web");
  const authorize = (first: number, count: number) =>
    clientOf(aws).send(
      new AuthorizeSecurityGroupIngressCommand({
        GroupId: groupId,
        IpPermissions: Array.from({ length: count }, (_, index) => ({
          ...port(first + index),
          IpRanges: [{ CidrIp: "10.0.0.0/8" }],
        })),
      }),
    );
  await authorize(1000, 60);
  await assert.rejects(authorize(2000, 1), { name: "RulesPerSecurityGroupLimitExceeded" });
});

test("rules are revoked by what they are, all of a call or none", async () => {
  await using aws = await startAws({ lightweight: true });
  const ec2 = clientOf(aws);
  const groupId = await createGroup(aws, "web");
  const permission = { ...port(80), IpRanges: [{ CidrIp: "10.0.0.0/8" }] };
  const revoke = (...IpPermissions: IpPermission[]) =>
    ec2.send(new RevokeSecurityGroupIngressCommand({ GroupId: groupId, IpPermissions }));
  await ec2.send(new AuthorizeSecurityGroupIngressCommand({ GroupId: groupId, IpPermissions: [permission] }));
  const other = { ...permission, ...port(81) };
  await assert.rejects(revoke(permission, other), { name: "InvalidPermission.NotFound" });
  const { RevokedSecurityGroupRules = [] } = await revoke(permission);
  assert.deepEqual(
    RevokedSecurityGroupRules.map(({ FromPort }) => FromPort),
    [80],
    "one that is not there has kept the others",
  );
  const directions = aws.services.network.rulesOf([groupId]).map(({ direction }) => direction);
  assert.deepEqual(directions, ["egress"]);
});

test("a group that an interface has, or a rule of another group names, is not deleted", async () => {
  await using aws = await startAws({ lightweight: true });
  const ec2 = clientOf(aws);
  const { network } = aws.services;
  const groupId = await createGroup(aws, "web");
  const remove = () => ec2.send(new DeleteSecurityGroupCommand({ GroupId: groupId }));
  const [subnetId = ""] = aws.account.subnetIds;
  const made = network.createInterface({ subnetId, groupIds: [groupId], description: "a task" });
  await assert.rejects(remove(), { name: "DependencyViolation" });
  network.deleteInterface(made.networkInterfaceId);

  const nfs = {
    GroupId: aws.account.efsSecurityGroupId,
    IpPermissions: [{ ...port(2049), UserIdGroupPairs: [{ GroupId: groupId }] }],
  };
  await ec2.send(new AuthorizeSecurityGroupIngressCommand(nfs));
  await assert.rejects(remove(), { name: "DependencyViolation" });
  await ec2.send(new RevokeSecurityGroupIngressCommand(nfs));
  await remove();
  await assert.rejects(remove(), { name: "InvalidGroup.NotFound" });
});

test("what EC2 does not take is refused as EC2 does", async () => {
  await using aws = await startAws({ lightweight: true });
  const ec2 = clientOf(aws);
  const groupId = await createGroup(aws, "web");
  await assert.rejects(createGroup(aws, "web"), { name: "InvalidGroup.Duplicate" });
  await assert.rejects(createGroup(aws, "sg-web"), { name: "InvalidParameterValue" });
  await assert.rejects(createGroup(aws, "w\u00e9b"), { name: "InvalidParameterValue" });
  const authorize = (permission: object) =>
    ec2.send(new AuthorizeSecurityGroupIngressCommand({ GroupId: groupId, IpPermissions: [permission] }));
  await assert.rejects(authorize({ IpProtocol: "tcp", IpRanges: [{ CidrIp: "10.0.0.0/8" }] }), {
    name: "InvalidParameterValue",
  });
  await assert.rejects(authorize({ ...port(80), IpRanges: [{ CidrIp: "10.0.0.1" }] }), {
    name: "InvalidParameterValue",
  });
  const Filters = [{ Name: "group-id", Values: Array.from({ length: 201 }, () => groupId) }];
  await assert.rejects(ec2.send(new DescribeSecurityGroupsCommand({ Filters })), {
    name: "FilterLimitExceeded",
  });
  await assert.rejects(authorize({ ...port(80), UserIdGroupPairs: [{ GroupId: "sg-0123456789abcdef0" }] }), {
    name: "InvalidGroup.NotFound",
  });
});

test("a new group may be unknown for a while", async () => {
  await using aws = await startAws({
    lightweight: true,
    switches: { eventualConsistencyMs: { ...allLag(0), ec2: 3_600_000 } },
  });
  const ec2 = clientOf(aws);
  const groupId = await createGroup(aws, "web");
  const describe = () => ec2.send(new DescribeSecurityGroupsCommand({ GroupIds: [groupId] }));
  await assert.rejects(describe(), { name: "InvalidGroup.NotFound" });
  await assert.rejects(ec2.send(new DeleteSecurityGroupCommand({ GroupId: groupId })), {
    name: "InvalidGroup.NotFound",
  });
  aws.clock.advance(3_600_000);
  assert.equal((await describe()).SecurityGroups?.length, 1);
});
