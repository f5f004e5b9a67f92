/** That each service has a delay of its own after which others see what it has made. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { CreateSecurityGroupCommand, DescribeSecurityGroupsCommand, EC2Client } from "@aws-sdk/client-ec2";
import { CreateAccessPointCommand, DescribeAccessPointsCommand, EFSClient } from "@aws-sdk/client-efs";
import {
  CreateServiceCommand,
  ListServicesCommand,
  ServiceDiscoveryClient,
} from "@aws-sdk/client-servicediscovery";

import { startAws } from "./aws.ts";

test("groups, access points and names are seen each in their own time", async () => {
  await using aws = await startAws({
    lightweight: true,
    switches: {
      eventualConsistencyMs: { ecs: 0, ec2: 1_000_000, efs: 10_000_000, servicediscovery: 100_000_000 },
    },
  });
  const ec2 = new EC2Client(aws.clientConfig);
  const efs = new EFSClient(aws.clientConfig);
  const names = new ServiceDiscoveryClient({ ...aws.clientConfig, disableHostPrefix: true });
  const { GroupId = "" } = await ec2.send(
    new CreateSecurityGroupCommand({ GroupName: "one", Description: "one", VpcId: aws.account.vpcId }),
  );
  const { fileSystemId: FileSystemId } = aws.account.fileSystem;
  await efs.send(new CreateAccessPointCommand({ FileSystemId, ClientToken: "one" }));
  await names.send(new CreateServiceCommand({ Name: "one", NamespaceId: aws.account.namespace.id }));

  async function seen(): Promise<readonly number[]> {
    const Filters = [{ Name: "group-id", Values: [GroupId] }];
    const { SecurityGroups = [] } = await ec2.send(new DescribeSecurityGroupsCommand({ Filters }));
    const { AccessPoints = [] } = await efs.send(new DescribeAccessPointsCommand({ FileSystemId }));
    const { Services = [] } = await names.send(new ListServicesCommand({}));
    return [SecurityGroups.length, AccessPoints.length, Services.length];
  }
  assert.deepEqual(await seen(), [0, 0, 0]);
  aws.clock.advance(1_000_000);
  assert.deepEqual(await seen(), [1, 0, 0]);
  aws.clock.advance(9_000_000);
  assert.deepEqual(await seen(), [1, 1, 0]);
  aws.clock.advance(90_000_000);
  assert.deepEqual(await seen(), [1, 1, 1]);
  for (const client of [ec2, efs, names]) {
    client.destroy();
  }
});
