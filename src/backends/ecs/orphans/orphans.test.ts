import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, it } from "node:test";

import type { EC2Client } from "@aws-sdk/client-ec2";
import type { ECRClient } from "@aws-sdk/client-ecr";
import type { ECSClient } from "@aws-sdk/client-ecs";
import type { ServiceDiscoveryClient } from "@aws-sdk/client-servicediscovery";

import { systemClock } from "../../../common/clock.ts";
import type { AwsService } from "../aws/clients.ts";
import { ecrCredentials } from "../ecr/credentials.ts";
import { ecrRepository } from "../ecr/repository.ts";
import { containerVariable } from "../../cloud/agents/agent-environment.ts";
import { fakeClient, refusal } from "../testing/fake-client.ts";
import { orphanedImages } from "../../cloud/orphans/images.ts";
import type { Known } from "../../cloud/orphans/orphan.ts";
import type { TaskPlace } from "../../cloud/contract/agent-finder.ts";
import { ecsTasks } from "../tasks/ecs-tasks.ts";
import { withoutNetwork, withVolumes } from "../security-groups/network-groups.ts";
import { SecurityGroups } from "../security-groups/security-groups.ts";
import { instanceTag, networkTag } from "../tags.ts";
import { orphanedGroups } from "./security-groups.ts";
import { orphanedServices } from "./services.ts";
import { orphanedTasks } from "../../cloud/orphans/tasks.ts";

const known = (ids: readonly string[]): Known => {
  const has = (id: string): boolean => ids.includes(id);
  return { hasVolume: has, hasNetwork: has, hasContainer: has, hasImage: has };
};

describe("what nobody's state knows", () => {
  it("is a task of this instance's whose container is unknown", async () => {
    const task = (id: string) => ({
      taskArn: `arn:${id}`,
      attachments: [
        {
          type: "ElasticNetworkInterface",
          details: [{ name: "privateIPv4Address", value: "10.0.0.9" }],
        },
      ],
      overrides: {
        containerOverrides: [{ name: "main", environment: [{ name: containerVariable, value: id }] }],
      },
    });
    const { client, made } = fakeClient<AwsService<ECSClient>>({
      ListTasks: ({ nextToken }) =>
        nextToken === undefined ? { taskArns: ["arn:a"], nextToken: "1" } : { taskArns: ["arn:b"] },
      DescribeTasks: () => ({
        tasks: [
          ...[task("a"), task("b"), task("c"), { ...task("d"), attachments: [] }],
          // Listed although they have ended, or are about to.
          { ...task("e"), lastStatus: "STOPPED", desiredStatus: "STOPPED" },
          { ...task("f"), lastStatus: "DEACTIVATING", desiredStatus: "STOPPED" },
        ],
      }),
      StopTask: () => ({}),
    });
    const finder = {
      async meet(containerId: string, { address }: TaskPlace) {
        assert.equal(address, "10.0.0.9");
        if (containerId !== "b") {
          throw new Error("nobody answers");
        }
        return { address, pin: new Uint8Array(32) };
      },
    };
    const tasks = ecsTasks({
      ecs: client,
      cluster: "cluster",
      place: "eu-west-1:123456789012",
      instance: "one",
      logGroup: "/g",
    });
    const found = await orphanedTasks(tasks, finder, "one", known(["a"]));
    assert.deepEqual(
      found.map(({ id, purpose }) => [id, purpose]),
      [
        ["arn:b", "container b, which a backend that starts takes over"],
        [
          "arn:c",
          "container c, whose agent does not answer: it may run, and a backend that starts takes it over once it does",
        ],
        ["arn:d", "container d"], // It has no agent yet: a backend that starts stops it.
      ],
    );
    assert.ok(made("ListTasks").every(({ startedBy }) => startedBy === "one"));
    assert.equal(await found[0]?.remove(), undefined);
    assert.deepEqual(
      made("StopTask").map((input) => input["task"]),
      ["arn:b"],
    );
  });

  it("is an image in the repository that this instance has put there and has no more", async () => {
    const tag = (id: string, instance: string): string =>
      `image-${id.repeat(64)}-${createHash("sha256").update(instance).digest("hex").slice(0, 12)}`;
    const { client, made } = fakeClient<AwsService<ECRClient>>({
      ListImages: () => ({
        imageIds: [tag("a", "one"), tag("b", "one"), tag("c", "two"), "sockerless-agent-1"].map(
          (imageTag) => ({
            imageTag,
          }),
        ),
      }),
      BatchDeleteImage: () => ({}),
    });
    const repository = ecrRepository({
      uri: "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/images",
      ecr: client,
      credentials: ecrCredentials({ ecr: client, ecrIn: () => client }, systemClock),
      registry: { insecureHosts: [], userAgent: "test", compression: "gzip" as const, silenceMs: 1000 },
      workDirectory: "/nowhere",
      instance: "one",
    });
    const found = await orphanedImages(repository, "one", known([`sha256:${"a".repeat(64)}`]));
    assert.deepEqual(
      found.map(({ id }) => id),
      [tag("b", "one")],
    );
    await found[0]?.remove();
    assert.deepEqual(made("BatchDeleteImage"), [
      { repositoryName: "team/images", imageIds: [{ imageTag: tag("b", "one") }] },
    ]);
  });

  it("is a security group of a network, and none that has copied its tags", async () => {
    const group = (id: string, name: string, network: string) => ({
      GroupId: id,
      GroupName: name,
      Tags: [
        { Key: networkTag, Value: network },
        { Key: instanceTag, Value: "two" },
      ],
    });
    const { client } = fakeClient<AwsService<EC2Client>>({
      DescribeSecurityGroups: () => ({
        SecurityGroups: [
          group("sg-1", `sockerless-net-${"a".repeat(12)}`, "a".repeat(64)),
          group("sg-2", "web-by-hand", "a".repeat(64)),
          group("sg-3", "sockerless-net-none-3fc4ccfe7458", withoutNetwork),
          group("sg-4", "none-by-hand", withoutNetwork),
          group("sg-5", "sockerless-net-volumes-3fc4ccfe7458", withVolumes),
        ],
      }),
    });
    const groups = new SecurityGroups({ ec2: client, subnet: "subnet-1", clock: systemClock });
    const found = await orphanedGroups(groups, undefined, "one", known([]));
    assert.deepEqual(
      found.map(({ id }) => id),
      ["sg-1", "sg-3", "sg-5"],
    );
  });

  it("is a name of another instance's in Cloud Map, which goes when its addresses have", async () => {
    let busy = true;
    const { client, made } = fakeClient<AwsService<ServiceDiscoveryClient>>({
      ListServices: () => ({
        Services: [
          { Id: "s-1", Name: "api.1", Description: "sockerless one" },
          { Id: "s-2", Name: "api.2", Description: "sockerless two" },
          { Id: "s-3", Name: "other", Description: "somebody's" },
        ],
      }),
      ListInstances: () => ({ Instances: busy ? [{ Id: "c-1" }] : [] }),
      DeregisterInstance: () => ({}),
      DeleteService: () => {
        if (busy) {
          throw refusal("servicediscovery", "DeleteService", "ResourceInUse");
        }
        return {};
      },
    });
    const found = await orphanedServices(client, "ns-1", "one");
    assert.deepEqual(
      found.map(({ id, instance }) => [id, instance]),
      [["s-2", "two"]],
    );
    assert.match((await found[0]?.remove()) ?? "", /still being deregistered/);
    busy = false;
    assert.equal(await found[0]?.remove(), undefined);
    assert.equal(made("DeregisterInstance").length, 1);
  });
});
