import assert from "node:assert/strict";
import { test } from "node:test";

import { CloudWatchLogsClient, GetLogEventsCommand } from "@aws-sdk/client-cloudwatch-logs";
import { CreateSecurityGroupCommand, DescribeSubnetsCommand, EC2Client } from "@aws-sdk/client-ec2";
import { CreateRepositoryCommand, ECRClient } from "@aws-sdk/client-ecr";
import { CreateAccessPointCommand, EFSClient } from "@aws-sdk/client-efs";
import { CreateServiceCommand, ServiceDiscoveryClient } from "@aws-sdk/client-servicediscovery";
import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";

import { type Aws, startAws } from "../aws.ts";

const once = { maxAttempts: 1 };

/** A request as the SDK signs it, with a body of our own. */
function send(aws: Aws, target: string, body: string, service: string): Promise<Response> {
  const scope = `${aws.credentials.accessKeyId}/20261120/${aws.region}/${service}/aws4_request`;
  return fetch(aws.endpoint, {
    method: "POST",
    headers: {
      authorization: `AWS4-HMAC-SHA256 Credential=${scope}, SignedHeaders=host, Signature=0`,
      "content-type": "application/x-amz-json-1.1",
      "x-amz-target": target,
    },
    body,
  });
}

test("every service refuses what its model does not allow, by its own error", async () => {
  await using aws = await startAws({ lightweight: true });
  const config = { ...aws.clientConfig, ...once };
  await assert.rejects(
    new CloudWatchLogsClient(config).send(
      new GetLogEventsCommand({ logGroupName: "no spaces", logStreamName: "main" }),
    ),
    { name: "InvalidParameterException", message: /must satisfy regular expression pattern/i },
  );
  await assert.rejects(new ECRClient(config).send(new CreateRepositoryCommand({ repositoryName: "Upper" })), {
    name: "InvalidParameterException",
  });
  await assert.rejects(
    new EFSClient(config).send(
      new CreateAccessPointCommand({
        FileSystemId: aws.account.fileSystem.fileSystemId,
        RootDirectory: { Path: "/one/two/three/four/five" },
      }),
    ),
    { name: "BadRequest" },
  );
  await assert.rejects(new ServiceDiscoveryClient(config).send(new CreateServiceCommand({ Name: "-web-" })), {
    name: "InvalidInput",
  });
});

test("every service refuses two tags of a key, by its own error", async () => {
  await using aws = await startAws({ lightweight: true });
  const config = { ...aws.clientConfig, ...once };
  const { account } = aws;
  const Tags = [
    { Key: "a", Value: "1" },
    { Key: "a", Value: "2" },
  ];
  const refused = (name: string): object => ({ name, message: /two tags with the same key/ });
  const group = { GroupName: "web", Description: "web", VpcId: account.vpcId };
  await assert.rejects(
    new EC2Client(config).send(
      new CreateSecurityGroupCommand({
        ...group,
        TagSpecifications: [{ ResourceType: "security-group", Tags }],
      }),
    ),
    refused("InvalidParameterValue"),
  );
  await assert.rejects(
    new EFSClient(config).send(
      new CreateAccessPointCommand({ FileSystemId: account.fileSystem.fileSystemId, Tags }),
    ),
    refused("BadRequest"),
  );
  await assert.rejects(
    new ServiceDiscoveryClient(config).send(
      new CreateServiceCommand({ Name: "web", NamespaceId: account.namespace.id, Tags }),
    ),
    refused("InvalidInput"),
  );
  await assert.rejects(
    new ECRClient(config).send(new CreateRepositoryCommand({ repositoryName: "web", tags: Tags })),
    refused("InvalidParameterException"),
  );
});

test("several violations are told at once", async () => {
  await using aws = await startAws({ lightweight: true });
  await assert.rejects(
    new CloudWatchLogsClient({ ...aws.clientConfig, ...once }).send(
      new GetLogEventsCommand({ logGroupName: "", logStreamName: "a:b", limit: 10_001 }),
    ),
    (error: Error) =>
      error.message.startsWith("4 validation errors detected: ") &&
      ["logGroupName", "logStreamName", "limit"].every((name) => error.message.includes(`at '${name}'`)),
  );
});

test("a member that is missing, unknown or of another type is refused", async () => {
  await using aws = await startAws({ lightweight: true });
  const answers = async (body: string) => {
    const answer = await send(aws, "AmazonEC2ContainerRegistry_V20150921.BatchGetImage", body, "ecr");
    return (await answer.json()) as { __type: string; message: string };
  };
  assert.match((await answers("{}")).message, /^2 validation errors detected: .*Member must not be null/);
  assert.equal((await answers('{"repositoryName": 1}')).__type, "SerializationException");
  assert.equal((await answers('{"repository": "x"}')).__type, "SerializationException");
  assert.equal((await answers("{")).__type, "SerializationException");
});

test("operations and services that AWS does not have are refused", async () => {
  await using aws = await startAws({ lightweight: true });
  const unknown = await send(aws, "Logs_20140328.CreateLogs", "{}", "logs");
  assert.equal(unknown.status, 400);
  assert.equal(((await unknown.json()) as { __type: string }).__type, "UnknownOperationException");
  assert.equal((await send(aws, "Any.Thing", "{}", "quantum")).status, 403);
  assert.equal((await fetch(aws.endpoint, { method: "POST" })).status, 403);
});

test("an unknown parameter of a query service is named", async () => {
  await using aws = await startAws({ lightweight: true });
  const scope = `${aws.credentials.accessKeyId}/20261120/${aws.region}/ec2/aws4_request`;
  const answer = await fetch(aws.endpoint, {
    method: "POST",
    headers: { authorization: `AWS4-HMAC-SHA256 Credential=${scope}, SignedHeaders=host, Signature=0` },
    body: new URLSearchParams({ Action: "DescribeSubnets", Version: "2016-11-15", "Subnet.1": "subnet-1" }),
  });
  assert.equal(answer.status, 400);
  assert.match(await answer.text(), /<Code>UnknownParameter<\/Code><Message>The parameter Subnet is not/);
});

test("a key that nobody has is refused, whether policies are enforced or not", async () => {
  await using aws = await startAws({ lightweight: true });
  const credentials = { accessKeyId: "AKIANOBODY", secretAccessKey: "x" };
  const config = { ...aws.clientConfig, ...once, credentials };
  await assert.rejects(new STSClient(config).send(new GetCallerIdentityCommand()), {
    name: "InvalidClientTokenId",
  });
  await assert.rejects(new EC2Client(config).send(new DescribeSubnetsCommand()), { name: "AuthFailure" });
  await assert.rejects(new ECRClient(config).send(new CreateRepositoryCommand({ repositoryName: "web" })), {
    name: "UnrecognizedClientException",
  });
});

test("another region's requests are refused", async () => {
  await using aws = await startAws({ lightweight: true, region: "eu-west-1" });
  const sts = new STSClient({ ...aws.clientConfig, ...once, region: "us-east-1" });
  await assert.rejects(sts.send(new GetCallerIdentityCommand()), /scoped to a valid region, not 'us-east-1'/);
});
