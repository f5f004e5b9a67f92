/** The ECS module in the real Terraform: plan, apply, a second plan, destroy, for each of its options. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { inSoak, sampled } from "../support/soak.ts";
import { moduleCall } from "./module-call.ts";
import { type Plan, type PlannedResource, skip, Workspace } from "./terraform.ts";

interface Option {
  readonly title: string;
  readonly variables: Readonly<Record<string, unknown>>;
  readonly check: (plan: Plan) => void;
  readonly region?: string;
  /** Also applied, planned again and destroyed; the others are variations that differ in numbers only. */
  readonly isApplied?: true;
}

/** Options that `npm test` tries; the soak tries all. */
const sample = new Set(["defaults", "agents that call"]);

const existing = {
  create_vpc: false,
  vpc_id: "vpc-0123456789abcdef0",
  private_subnet_ids: ["subnet-0a", "subnet-0b"],
};

const options: readonly Option[] = [
  {
    title: "defaults",
    variables: {},
    check: (plan) => assertNetwork(plan, { zones: 2, gateways: 1 }),
    isApplied: true,
  },
  ...[
    { zones: 1, gateways: 0 },
    { zones: 1, gateways: 1 },
    { zones: 2, gateways: 2 },
    { zones: 3, gateways: 0 },
    { zones: 3, gateways: 1 },
    { zones: 3, gateways: 2 },
    { zones: 3, gateways: 3 },
  ].map((network): Option => {
    const closed = network.gateways === 0;
    return {
      title: `${network.zones} zones with ${network.gateways} NAT gateways`,
      variables: {
        availability_zone_count: network.zones,
        nat_gateway_count: network.gateways,
        ...(closed && { task_subnets: "public" }),
      },
      check: (plan) => assertNetwork(plan, network),
      ...(network.zones === network.gateways && network.zones > 1 && { isApplied: true }),
    };
  }),
  {
    title: "named zones and subnets in a small VPC",
    variables: {
      availability_zones: ["us-east-1b", "us-east-1d"],
      vpc_cidr: "192.168.0.0/24",
      private_subnet_cidrs: ["192.168.0.0/26", "192.168.0.64/26"],
      public_subnet_cidrs: ["192.168.0.128/28", "192.168.0.144/28"],
    },
    check: (plan) => {
      assertNetwork(plan, { zones: 2, gateways: 1 });
      assert.deepEqual(valuesOf(plan, "aws_subnet", "availability_zone", "private"), [
        "us-east-1b",
        "us-east-1d",
      ]);
    },
  },
  {
    isApplied: true,
    title: "an existing VPC",
    variables: { ...existing, agent_ingress_security_group_ids: ["sg-0123456789abcdef0"] },
    check: (plan) => {
      for (const type of ["aws_vpc", "aws_subnet", "aws_nat_gateway", "aws_internet_gateway", "aws_route"]) {
        assert.equal(count(plan, type), 0, type);
      }
      assert.deepEqual(valuesOf(plan, "aws_efs_mount_target", "subnet_id"), existing.private_subnet_ids);
      assert.equal(count(plan, "aws_vpc_security_group_ingress_rule", "agent_from_cidr"), 0);
      assert.equal(count(plan, "aws_vpc_security_group_ingress_rule", "agent_from_security_group"), 1);
    },
  },
  {
    title: "agents that call",
    variables: { callback_url: "wss://sockerless.example.com:8443" },
    check: (plan) => {
      assert.equal(count(plan, "aws_vpc_security_group_ingress_rule", "agent_from_cidr"), 0);
      assert.equal(count(plan, "aws_vpc_security_group_ingress_rule", "agent_from_security_group"), 0);
      assert.equal(count(plan, "aws_vpc_security_group_ingress_rule", "task_from_task"), 1);
    },
  },
  {
    title: "VPC endpoints in an existing VPC",
    variables: {
      ...existing,
      enable_vpc_endpoints: true,
      private_route_table_ids: ["rtb-0a"],
      vpc_endpoint_services: ["ecr.api", "ecr.dkr", "logs", "ecs"],
    },
    check: (plan) => {
      assert.equal(count(plan, "aws_vpc_endpoint", "interface"), 4);
      assert.deepEqual(valuesOf(plan, "aws_vpc_endpoint", "route_table_ids", "s3"), [["rtb-0a"]]);
      assert.deepEqual(
        valuesOf(plan, "aws_vpc_security_group_ingress_rule", "cidr_ipv4", "endpoints_from_vpc"),
        ["10.20.0.0/16"],
      );
    },
  },
  ...(
    [
      ["China", "cn-north-1", "cn.com.amazonaws", "aws-cn"],
      ["GovCloud", "us-gov-west-1", "com.amazonaws", "aws-us-gov"],
    ] as const
  ).map(
    ([where, region, prefix, partition]): Option => ({
      title: `VPC endpoints and ARNs in ${where}`,
      region,
      variables: {
        enable_vpc_endpoints: true,
        vpc_endpoint_services: ["ecr.api", "ecr.dkr", "ecs", "elasticfilesystem", "logs", "sts"],
      },
      check: (plan) => {
        assert.deepEqual(
          new Set(valuesOf(plan, "aws_vpc_endpoint", "service_name")),
          new Set([
            ...["s3", "ecs", "logs"].map((service) => `com.amazonaws.${region}.${service}`),
            ...["ecr.api", "ecr.dkr", "elasticfilesystem", "sts"].map(
              (service) => `${prefix}.${region}.${service}`,
            ),
          ]),
        );
        const text = JSON.stringify(plan);
        assert.deepEqual(
          text.match(/arn:(?!\$)[a-z-]+:/g)?.filter((arn) => arn !== `arn:${partition}:`),
          [],
        );
      },
    }),
  ),
  {
    title: "a customer's key on the registries' secrets",
    variables: { secrets_kms_key_arn: "arn:aws:kms:us-east-1:123456789012:key/1" },
    check: (plan) => assert.equal(count(plan, "aws_iam_role_policy", "execution"), 1),
  },
  {
    isApplied: true,
    title: "VPC endpoints instead of NAT gateways",
    variables: { nat_gateway_count: 0, enable_vpc_endpoints: true },
    check: (plan) => {
      assert.equal(count(plan, "aws_vpc_endpoint"), 5);
      assert.equal(count(plan, "aws_eip"), 0);
    },
  },
  {
    isApplied: true,
    title: "Fargate Spot",
    variables: { capacity_provider: "FARGATE_SPOT", enable_container_insights: false },
    check: (plan) => {
      const providers = one(plan, "aws_ecs_cluster_capacity_providers").values;
      assert.deepEqual(providers["capacity_providers"], ["FARGATE", "FARGATE_SPOT"]);
      const [strategy] = providers["default_capacity_provider_strategy"] as Record<string, unknown>[];
      assert.equal(strategy?.["capacity_provider"], "FARGATE_SPOT");
      assert.deepEqual(one(plan, "aws_ecs_cluster").values["setting"], [
        { name: "containerInsights", value: "disabled" },
      ]);
    },
  },
  {
    isApplied: true,
    title: "without ECR, without Cloud Map registration by containers, without AWS's managed policy",
    variables: {
      create_ecr_repository: false,
      task_cloud_map_registration: false,
      attach_execution_managed_policy: false,
    },
    check: (plan) => {
      assert.equal(count(plan, "aws_iam_role_policy_attachment"), 0);
      assert.equal(count(plan, "aws_ecr_repository") + count(plan, "aws_ecr_lifecycle_policy"), 0);
    },
  },
  {
    title: "EFS with provisioned throughput, a key and a transition",
    variables: {
      efs_throughput_mode: "provisioned",
      efs_provisioned_throughput_mibps: 64,
      efs_kms_key_arn: "arn:aws:kms:us-east-1:123456789012:key/1",
      efs_transition_to_ia: "AFTER_30_DAYS",
    },
    check: (plan) => {
      const { values } = one(plan, "aws_efs_file_system");
      assert.equal(values["provisioned_throughput_in_mibps"], 64);
      assert.equal((values["lifecycle_policy"] as unknown[]).length, 1);
    },
  },
];

describe("the ECS module in Terraform", { skip, concurrency: 2 }, () => {
  it("is valid", async () => {
    await using workspace = await Workspace.create(moduleCall("ecs"));
    assert.deepEqual(await workspace.validate(), []);
  });

  for (const { title, variables, region, check } of options.filter(({ isApplied }) => isApplied !== true)) {
    it(`is planned: ${title}`, sampled(sample.has(title)), async () => {
      await using workspace = await Workspace.create(moduleCall("ecs", variables, [], region));
      const plan = await workspace.plan();
      assert.deepEqual(plan.diagnostics, []);
      check(plan);
    });
  }

  for (const { title, variables, check } of options.filter(({ isApplied }) => isApplied === true)) {
    it(
      `is planned, applied, unchanged by a second plan, and destroyed: ${title}`,
      sampled(sample.has(title)),
      async () => {
        await using workspace = await Workspace.create(moduleCall("ecs", variables));
        check(await workspace.planAndApply());
        assert.deepEqual((await workspace.plan()).changes, []);
        await workspace.destroy();
        assert.deepEqual(await workspace.resources(), []);
      },
    );
  }

  it("exists twice in an account without sharing a name", async () => {
    const { module, ...root } = moduleCall("ecs");
    const { this: first } = module as { this: Record<string, unknown> };
    await using workspace = await Workspace.create({
      ...root,
      module: { first: { ...first, name: "first" }, second: { ...first, name: "second" } },
    });
    const { resources } = await workspace.planAndApply();
    const names = resources.flatMap(({ type, values }) =>
      typeof values["name"] === "string" ? [`${type} ${values["name"]}`] : [],
    );
    // Inline policies are named within their role.
    const shared = names.filter((name) => !name.startsWith("aws_iam_role_policy "));
    assert.ok(shared.length >= 14, shared.join());
    assert.equal(new Set(shared).size, shared.length, shared.join());
  });

  it("warns of tasks that could reach no registry", async () => {
    await using workspace = await Workspace.create(moduleCall("ecs", { nat_gateway_count: 0 }));
    const { diagnostics } = await workspace.plan();
    assert.deepEqual(
      diagnostics.map(({ severity }) => severity),
      ["warning"],
    );
    assert.match(diagnostics[0]?.detail ?? "", /reach no registry/);
  });

  it("adds a zone without touching the others", inSoak, async () => {
    await using workspace = await Workspace.create(moduleCall("ecs", { availability_zone_count: 2 }));
    await workspace.planAndApply();
    await workspace.configure(moduleCall("ecs", { availability_zone_count: 3 }));
    const { changes } = await workspace.plan();
    assert.ok(changes.length > 0);
    assert.deepEqual(
      changes.filter((change) => !change.startsWith("create ")),
      [],
    );
  });

  it("tags every resource as the standard asks, whatever else is asked for", async () => {
    const variables = {
      environment: "production",
      tags: { team: "ci", project: "other" },
      enable_vpc_endpoints: true,
    };
    await using workspace = await Workspace.create(moduleCall("ecs", variables));
    const { resources } = await workspace.plan();
    const tagged = resources.filter(({ values }) => "tags" in values);
    assert.ok(tagged.length >= 30);
    for (const { address, values } of tagged) {
      const { project, environment, component, "managed-by": manager, team } = values["tags"] as Tags;
      assert.deepEqual(
        { project, environment, component, manager, team },
        {
          project: "sockerless",
          environment: "production",
          component: "ecs",
          manager: "terraform",
          team: "ci",
        },
        address,
      );
    }
  });
});

type Tags = Readonly<Record<string, string>>;

/** That there are public and private subnets in all zones, apart and within the VPC, and the wanted gateways. */
function assertNetwork(plan: Plan, { zones, gateways }: { zones: number; gateways: number }): void {
  const vpc = rangeOf(String(one(plan, "aws_vpc").values["cidr_block"]));
  const ranges = valuesOf(plan, "aws_subnet", "cidr_block").map((cidr) => rangeOf(String(cidr)));
  assert.equal(ranges.length, 2 * zones);
  const sorted = ranges.toSorted((left, right) => left.first - right.first);
  for (const [index, range] of sorted.entries()) {
    assert.ok(range.first >= vpc.first && range.last <= vpc.last, "the subnet is within the VPC");
    assert.ok(range.first > (sorted[index - 1]?.last ?? -1), "subnets are apart");
  }
  for (const name of ["public", "private"]) {
    const used = valuesOf(plan, "aws_subnet", "availability_zone", name);
    assert.equal(new Set(used).size, zones, `${name} subnets are in ${zones} zones`);
  }
  assert.equal(count(plan, "aws_nat_gateway"), gateways);
  assert.equal(count(plan, "aws_eip"), gateways);
  assert.equal(count(plan, "aws_route", "nat"), gateways === 0 ? 0 : zones);
  assert.equal(count(plan, "aws_route_table", "private"), zones);
  assert.equal(count(plan, "aws_efs_mount_target"), zones);
}

function count(plan: Plan, type: string, name?: string): number {
  return plan.resources.filter((each) => each.type === type && (name ?? each.name) === each.name).length;
}

function one(plan: Plan, type: string): PlannedResource {
  const [found, ...others] = plan.resources.filter((each) => each.type === type);
  assert.ok(found !== undefined && others.length === 0, `one ${type}`);
  return found;
}

function valuesOf(plan: Plan, type: string, attribute: string, name?: string): unknown[] {
  return plan.resources
    .filter((each) => each.type === type && (name ?? each.name) === each.name)
    .map(({ values }) => values[attribute]);
}

/** First and last address of a network, as numbers. */
function rangeOf(cidr: string): { first: number; last: number } {
  const [address = "", length = "32"] = cidr.split("/");
  const first = address.split(".").reduce((sum, byte) => sum * 256 + Number(byte), 0);
  return { first, last: first + 2 ** (32 - Number(length)) - 1 };
}
