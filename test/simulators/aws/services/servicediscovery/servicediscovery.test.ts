import assert from "node:assert/strict";
import { test } from "node:test";

import {
  CreateServiceCommand,
  DeleteServiceCommand,
  DeregisterInstanceCommand,
  ListInstancesCommand,
  ListServicesCommand,
  RegisterInstanceCommand,
  ServiceDiscoveryClient,
} from "@aws-sdk/client-servicediscovery";

import { type Aws, startAws } from "../../aws.ts";

function clientOf(aws: Aws): ServiceDiscoveryClient {
  return new ServiceDiscoveryClient({ ...aws.clientConfig, maxAttempts: 1 });
}

async function createService(aws: Aws, name: string): Promise<string> {
  const { Service } = await clientOf(aws).send(
    new CreateServiceCommand({
      Name: name,
      NamespaceId: aws.account.namespace.id,
      DnsConfig: { RoutingPolicy: "MULTIVALUE", DnsRecords: [{ Type: "A", TTL: 5 }] },
      Tags: [{ Key: "sockerless-network", Value: "x" }],
    }),
  );
  assert.ok(Service?.Id);
  return Service.Id;
}

const register = (ServiceId: string, InstanceId: string, address: string) =>
  new RegisterInstanceCommand({ ServiceId, InstanceId, Attributes: { AWS_INSTANCE_IPV4: address } });

test("a service with a dotted name is made once", async () => {
  await using aws = await startAws({ lightweight: true });
  const cloudMap = clientOf(aws);
  const serviceId = await createService(aws, "web.0123456789ab");
  await assert.rejects(createService(aws, "WEB.0123456789ab"), {
    name: "ServiceAlreadyExists",
    ServiceId: serviceId,
  });
  const { Services } = await cloudMap.send(
    new ListServicesCommand({ Filters: [{ Name: "NAMESPACE_ID", Values: [aws.account.namespace.id] }] }),
  );
  assert.deepEqual(
    Services?.map(({ Id, Name }) => ({ Id, Name })),
    [{ Id: serviceId, Name: "web.0123456789ab" }],
  );
});

test("the same request twice makes one service", async () => {
  await using aws = await startAws({ lightweight: true });
  const create = new CreateServiceCommand({
    Name: "web",
    NamespaceId: aws.account.namespace.id,
    CreatorRequestId: "one",
  });
  const first = await clientOf(aws).send(create);
  const second = await clientOf(aws).send(create);
  assert.equal(first.Service?.Id, second.Service?.Id);
});

test("instances are registered, found and taken away behind the answers", async () => {
  await using aws = await startAws({ lightweight: true, delays: { cloudMapOperation: 1000 } });
  const cloudMap = clientOf(aws);
  const ServiceId = await createService(aws, "web");
  const addresses = async () => {
    const { Instances = [] } = await cloudMap.send(new ListInstancesCommand({ ServiceId }));
    return Instances.map(({ Attributes }) => Attributes?.["AWS_INSTANCE_IPV4"]);
  };
  // One second of the clock may pass by itself; an operation that has ended does not stand in another's way.
  await cloudMap.send(register(ServiceId, "one", "10.0.0.4"));
  aws.clock.advance(1000);
  assert.deepEqual(await addresses(), ["10.0.0.4"]);
  await cloudMap.send(register(ServiceId, "one", "10.0.0.5"));
  aws.clock.advance(1000);
  assert.deepEqual(await addresses(), ["10.0.0.5"]);
  await assert.rejects(cloudMap.send(new DeleteServiceCommand({ Id: ServiceId })), { name: "ResourceInUse" });
  await cloudMap.send(new DeregisterInstanceCommand({ ServiceId, InstanceId: "one" }));
  aws.clock.advance(1000);
  assert.deepEqual(await addresses(), []);
  await cloudMap.send(new DeleteServiceCommand({ Id: ServiceId }));
});

test("an instance has one operation at a time", async () => {
  await using aws = await startAws({ lightweight: true, delays: { cloudMapOperation: 3_600_000 } });
  const cloudMap = clientOf(aws);
  const ServiceId = await createService(aws, "web");
  await cloudMap.send(register(ServiceId, "one", "10.0.0.4"));
  await assert.rejects(cloudMap.send(register(ServiceId, "one", "10.0.0.5")), { name: "DuplicateRequest" });
  await cloudMap.send(register(ServiceId, "two", "10.0.0.5"));
});

test("an instance of a service with addresses needs one", async () => {
  await using aws = await startAws({ lightweight: true });
  const cloudMap = clientOf(aws);
  const ServiceId = await createService(aws, "web");
  for (const address of [undefined, "::1", "web"]) {
    const Attributes = address === undefined ? { other: "x" } : { AWS_INSTANCE_IPV4: address };
    const request = new RegisterInstanceCommand({ ServiceId, InstanceId: "one", Attributes });
    await assert.rejects(cloudMap.send(request), { name: "InvalidInput" }, address);
  }
  await assert.rejects(cloudMap.send(new DeregisterInstanceCommand({ ServiceId, InstanceId: "one" })), {
    name: "InstanceNotFound",
  });
});
