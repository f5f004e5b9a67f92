/**
 * `sockerless doctor` in the simulated AWS: what is broken, and which lines tell so, all others being as they were; the
 * same lines where all else is broken; and each right of the backend's policy taken away.
 */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, beforeEach, describe, it } from "node:test";

import type { Aws } from "../simulators/aws/aws.ts";
import type { PolicyDocument, Role } from "../simulators/aws/iam/access.ts";
import type { RouteTable } from "../simulators/aws/services/ec2/network.ts";
import { runCommand } from "../support/command.ts";
import { checkout } from "../support/daemon.ts";
import { type Breakage, type DoctorLook, doctorLook, type Statuses } from "../support/doctor-look.ts";
import { awsEnvironment, documentedPolicy, EcsAccount, withoutAction } from "../support/ecs-daemon.ts";
import { inSoak } from "../support/soak.ts";

/** Rights of which nothing is known without the VPC's ID, and without that of the Route 53 zone. */
const inVpc = [
  ...["AuthorizeSecurityGroupEgress", "AuthorizeSecurityGroupIngress", "CreateSecurityGroup"],
  ...["DeleteSecurityGroup", "RevokeSecurityGroupEgress", "RevokeSecurityGroupIngress"],
].map((name) => `ec2:${name}`);
const inZone = ["route53:ChangeResourceRecordSets", "route53:GetHostedZone"];

const allUnknown = (...checks: readonly string[]): Statuses =>
  Object.fromEntries(checks.map((check) => [check, "unknown"]));

const breakages: Readonly<Record<string, Breakage<Aws>>> = {
  "a cluster that is not there": { flags: { "ecs.cluster": "nowhere" }, lines: { "the cluster": "wrong" } },
  "a log group that is not there": {
    flags: { "ecs.log_group": "/nowhere" },
    lines: { "the log group": "wrong" },
  },
  "a group of mount targets that is not there": {
    flags: { "ecs.efs_security_group_id": "sg-0123456789abcdef0" },
    lines: { "the file system's security group": "wrong" },
  },
  "a namespace that is not there": {
    flags: { "ecs.cloud_map_namespace_id": "ns-0123456789abcdef" },
    lines: { "the namespace": "wrong", ...allUnknown(...inZone) },
  },
  "groups that let nobody reach agents": {
    change: withoutRules(({ securityGroupId }) => securityGroupId, "ingress"),
    lines: { "the security groups": "wrong" },
  },
  "groups that let nothing out": {
    change: withoutRules(({ securityGroupId }) => securityGroupId, "egress"),
    lines: { "the way out of the security groups": "wrong" },
  },
  "mount targets that let nobody in": {
    change: withoutRules(({ efsSecurityGroupId }) => efsSecurityGroupId, "ingress"),
    lines: { "the mount targets": "wrong" },
  },
  "a NAT gateway that is no more": {
    change: withRoute({ destination: "0.0.0.0/0", gateway: "nat-1", isBlackhole: true }),
    lines: { "the way out of the subnets": "wrong" },
  },
  "an execution role that tasks are not given": {
    change: withRole("executionRoleArn", (role) => ({ ...role, trusted: ["lambda.amazonaws.com"] })),
    lines: { "the execution role": "wrong" },
  },
  "a task role that is not there": {
    change: withRole("taskRoleArn", () => undefined),
    lines: { "the task role": "wrong" },
  },
  "a quota of vCPUs for less than one container": {
    change: withQuota("fargateVcpus", 0.1),
    lines: { "the quota of vCPUs": "warning" },
  },
  "a quota of network interfaces for none": {
    change: withQuota("networkInterfaces", 0),
    lines: { "the quota of network interfaces": "warning" },
  },
};

/** Things without which others cannot be looked at; each is broken alone. */
const foundations: Readonly<Record<string, Breakage<Aws>>> = {
  "subnets that are not there": {
    flags: { "ecs.subnets": ["subnet-0123456789abcdef0"] },
    lines: {
      "the subnets": "wrong",
      "the file system": "wrong",
      ...allUnknown("the way out of the subnets", "the mount targets", "the addresses of the subnets"),
      ...allUnknown(...inVpc),
    },
  },
  "a file system that is not there": {
    flags: { "ecs.efs_filesystem_id": "fs-0123456789abcdef0" },
    lines: { "the file system": "wrong", "the mount targets": "unknown" },
  },
  "a mount target that is not there": {
    flags: {},
    change: ({ services: { efs } }) => {
      efs.removeMountTarget(efs.mountTargets()[0]?.mountTargetId ?? "");
      return () => assert.fail("there is no way back");
    },
    lines: { "the file system": "wrong" },
  },
  "an Internet gateway for tasks without public addresses": {
    change: withRoute({ destination: "0.0.0.0/0", gateway: "igw-1" }),
    lines: { "the way out of the subnets": "wrong" },
  },
  "an execution role that may not pull": {
    change: withRole("executionRoleArn", (role) => ({
      ...role,
      policies: role.policies.map((policy) => withoutAction(policy, "ecr:BatchGetImage")),
    })),
    lines: { "the execution role": "wrong" },
  },
  "an execution role that may not write logs": {
    change: withRole("executionRoleArn", (role) => ({
      ...role,
      policies: role.policies.map((policy) => withoutAction(policy, "logs:PutLogEvents")),
    })),
    lines: { "the execution role": "wrong" },
  },
  "a task role that may not mount volumes": {
    flags: { "ecs.efs_iam": true },
    lines: { "the task role": "wrong" },
  },
  "no route out, but endpoints that let nobody in": {
    change: (aws) => {
      const groupId = aws.account.efsSecurityGroupId;
      const undo = [withRoute()(aws), withEndpoints("ecr.api", "ecr.dkr", "s3", "logs")(aws, groupId)];
      return () => {
        for (const each of undo) {
          each();
        }
      };
    },
    lines: { "the way out of the subnets": "wrong" },
  },
  "no route out, and no endpoint to the logs": {
    change: (aws) => {
      const undo = [withRoute()(aws), withEndpoints("ecr.api", "ecr.dkr", "s3")(aws)];
      return () => {
        for (const each of undo) {
          each();
        }
      };
    },
    lines: { "the way out of the subnets": "warning" },
  },
  "no route out": { change: withRoute(), lines: { "the way out of the subnets": "warning" } },
  "more containers than there is room for": {
    containers: 100_000,
    lines: Object.fromEntries(
      ["the quota of vCPUs", "the quota of network interfaces", "the addresses of the subnets"].map(
        (name) => [name, "warning"],
      ),
    ),
  },
  "an agent's image that nobody has pushed": {
    flags: { "ecs.architecture": "arm64" },
    lines: { "the agent's image": "wrong" },
  },
  "an agent's image of somebody else": {
    flags: { "ecs.agent_image": "example.com/agent" },
    lines: { "the agent's image": "missing", "the agent": "unknown" },
  },
};

const { Statement: statements } = JSON.parse(
  await readFile(join(checkout, "deploy/iam/backend-policy.json"), "utf8"),
) as PolicyDocument;
const actions = [...new Set(statements.flatMap(({ Action }) => Action))].sort();

describe("the doctor of ECS", () => {
  let account: EcsAccount;
  let aws: Aws;
  before(async () => {
    account = await EcsAccount.open({ aws: { lightweight: true }, ecs: { agent_mode: "direct" } });
    aws = account.aws;
  });
  after(() => account[Symbol.asyncDispose]());
  beforeEach(() => {
    Object.assign(process.env, account.env);
    aws.iam.enforced = false;
  });

  const look = (flags?: Readonly<Record<string, unknown>>, containers = 1): Promise<DoctorLook> =>
    doctorLook("ecs", account.args[1] ?? "", flags, { containers });

  /** Becomes a user with these policies, which hold from now on. */
  function become(name: string, ...policies: readonly PolicyDocument[]): void {
    Object.assign(process.env, awsEnvironment(aws.iam.addUser(name, policies)));
    aws.iam.enforced = true;
  }

  async function policyWithout(action?: string): Promise<PolicyDocument> {
    const whole = await documentedPolicy(aws, "backend-policy.json");
    return action === undefined ? whole : withoutAction(whole, action);
  }

  it("finds nothing where nothing is broken, ends with the exit code 0, and changes nothing", async () => {
    aws.calls.clear();
    const args = ["doctor", "--backend", "ecs", ...account.args, "--format", "json"];
    const { code, text, errorText } = await runCommand(join(checkout, "bin/sockerless"), args, {
      env: { ...process.env, ...account.env },
    });
    assert.equal(code, 0, text + errorText);
    const findings = JSON.parse(text) as readonly { readonly check: string; readonly status: string }[];
    assert.ok(
      findings.every(({ status }) => status === "ok"),
      text,
    );
    for (const action of actions) {
      assert.ok(
        findings.some(({ check }) => check === action),
        action,
      );
    }
    assertNothingChanged(aws);
  });

  for (const [name, breakage] of Object.entries({ ...breakages, ...foundations })) {
    it(`finds ${name}, and nothing else`, async () => {
      if (name === "a mount target that is not there") {
        await using another = await EcsAccount.open({
          aws: { lightweight: true },
          ecs: { agent_mode: "direct" },
        });
        await assertTold(another, breakage);
        return;
      }
      await assertTold(account, breakage);
    });
  }

  async function assertTold(
    where: EcsAccount,
    { flags, change, containers, lines }: Breakage<Aws>,
  ): Promise<void> {
    const previous = [account, aws] as const;
    [account, aws] = [where, where.aws];
    Object.assign(process.env, where.env);
    const undo = change?.(aws);
    try {
      const { statuses, isWell, text, findings } = await look(flags, containers);
      const expected = Object.entries(lines).filter(([, status]) => status !== "missing");
      assert.deepEqual(statuses, Object.fromEntries(expected), text);
      assert.equal(isWell, !Object.values(lines).includes("wrong"), text);
      for (const [check, status] of Object.entries(lines)) {
        assert.equal(
          findings.some((finding) => finding.check === check),
          status !== "missing",
        );
      }
    } finally {
      [account, aws] = previous;
      if (where === account) {
        undo?.();
      }
    }
  }

  for (const [name, { lines }] of Object.entries(breakages)) {
    it(`finds all well that ${name} would break, where all else is broken`, async () => {
      const others = Object.entries(breakages).filter(([other]) => other !== name);
      const undoings = others.map(([, { change }]) => change?.(aws));
      try {
        const { findings, text } = await look(Object.assign({}, ...others.map(([, { flags }]) => flags)));
        for (const check of Object.keys(lines)) {
          assert.equal(findings.find((finding) => finding.check === check)?.status, "ok", check + text);
        }
      } finally {
        for (const undo of undoings.reverse()) {
          undo?.();
        }
      }
    });
  }

  it("finds endpoints of the VPC in place of a route out", async () => {
    const undo = [withRoute()(aws), withEndpoints("ecr.api", "ecr.dkr", "s3", "logs")(aws)];
    try {
      const { findings } = await look();
      const found = findings.find(({ check }) => check === "the way out of the subnets");
      assert.equal(found?.status, "ok");
      assert.match(found?.text ?? "", /by VPC endpoints/);
    } finally {
      for (const each of undo) {
        each();
      }
    }
  });

  for (const action of actions) {
    it(`finds ${action} not allowed, and nothing else wrong`, async () => {
      become(
        `simulated-${action}`,
        await policyWithout(action),
        await documentedPolicy(aws, "doctor-policy.json"),
      );
      const { findings, text } = await look();
      assert.deepEqual(wrongIn(findings), [action], text);
    });
  }

  it(
    "asks without IAM's simulation what changes nothing, and knows nothing of the other rights",
    inSoak,
    async () => {
      const network = { "sockerless-network": "0123456789ab" };
      const { groupId } = aws.services.network.groups.create("net", "a network", network, aws.account.vpcId);
      become("unsimulated", await policyWithout());
      aws.calls.clear();
      const { findings, statuses, isWell, text } = await look();
      assert.ok(isWell, text);
      assertNothingChanged(aws);
      const rights = findings.filter(({ check }) => actions.includes(check));
      const known = rights.filter(({ status }) => status === "ok").map(({ check }) => check);
      assert.ok(known.includes("ec2:CreateTags") && known.includes("ecs:DescribeTasks"), text);
      for (const action of ["ecs:RunTask", "iam:PassRole", "ecr:PutImage", "logs:GetLogEvents"]) {
        assert.equal(statuses[action], "unknown", text);
      }
      for (const action of known) {
        become(`unsimulated-${action}`, await policyWithout(action));
        const without = await look();
        assert.deepEqual(wrongIn(without.findings), [action], without.text);
      }
      aws.services.network.groups.delete(groupId);
    },
  );

  it("knows nothing of the rights to change groups where there is none to try it on", async () => {
    become("without-network", await policyWithout());
    const { statuses, text } = await look();
    assert.equal(statuses["ec2:DeleteSecurityGroup"], "unknown", text);
  });

  it("asks what the role of a task may do, not its session", async () => {
    const policies = [await policyWithout(), await documentedPolicy(aws, "doctor-policy.json")];
    const role = aws.iam.addRole("backend", { trusted: ["ecs-tasks.amazonaws.com"], policies });
    Object.assign(process.env, awsEnvironment(aws.iam.assumeRole(role, "session") ?? assert.fail()));
    const { statuses, text } = await look();
    assert.deepEqual(statuses, {}, text);
  });

  it("finds credentials that AWS does not take wrong, and no check well with them", async () => {
    process.env["AWS_ACCESS_KEY_ID"] = "AKIANOBODY0000000000";
    const { findings, isWell, text } = await look();
    assert.ok(!isWell && findings.every(({ status }) => status !== "ok"), text);
  });
});

function wrongIn(findings: readonly { readonly check: string; readonly status: string }[]): string[] {
  return findings.filter(({ status }) => status === "wrong").map(({ check }) => check);
}

function assertNothingChanged({ calls }: Aws): void {
  const changing = calls
    .all()
    .filter(
      ({ operation, input }) =>
        !/^(Describe|Get|List|BatchGet|Simulate)/.test(operation) &&
        (input as { readonly DryRun?: boolean }).DryRun !== true,
    );
  assert.deepEqual(changing, []);
}

function withoutRules(groupOf: (account: Aws["account"]) => string, direction: "ingress" | "egress") {
  return ({ account, services: { network } }: Aws) => {
    const group = network.groups.get(groupOf(account));
    const { rules } = group;
    group.rules = rules.filter((rule) => rule.direction !== direction);
    const { rules: rest } = group;
    return () => {
      group.rules = [...group.rules, ...rules.filter((rule) => !rest.includes(rule))];
    };
  };
}

/** Makes the main table one with this route alone beside its own network's. */
function withRoute(...added: RouteTable["routes"]) {
  return ({ services: { network } }: Aws) => {
    const { routeTables } = network;
    network.routeTables = routeTables.map((table) => ({
      ...table,
      routes: [...table.routes.filter(({ gateway }) => gateway === "local"), ...added],
    }));
    return () => {
      network.routeTables = routeTables;
    };
  };
}

/** Makes endpoints of services in the VPC, with a group that lets its members in. */
function withEndpoints(...services: readonly string[]) {
  return ({ account, services: { network } }: Aws, group?: string) => {
    const groupId = group ?? network.groups.create("endpoints", "endpoints", {}, account.vpcId).groupId;
    if (group === undefined) {
      network.groups.authorize(
        groupId,
        [
          {
            ...{ groupId, direction: "ingress", protocol: "tcp", fromPort: 443, toPort: 443 },
            peer: { groupId: account.securityGroupId },
          },
        ],
        {},
      );
    }
    network.endpoints = services.map((service) => ({
      endpointId: `vpce-${service}`,
      service,
      ...(service === "s3"
        ? {
            ...{ kind: "Gateway" as const, groupIds: [] },
            routeTableIds: network.routeTables.map(({ routeTableId }) => routeTableId),
          }
        : { kind: "Interface" as const, routeTableIds: [], groupIds: [groupId] }),
    }));
    return () => {
      network.endpoints = [];
      if (group === undefined) {
        network.groups.delete(groupId);
      }
    };
  };
}

/** Changes a role of the account, or takes it away. */
function withRole(name: "executionRoleArn" | "taskRoleArn", changed: (role: Role) => Role | undefined) {
  return ({ account, iam }: Aws) => {
    const arn = account[name];
    const roleName = arn.slice(arn.lastIndexOf("/") + 1);
    const role = iam.role(arn) ?? assert.fail();
    const other = changed(role);
    if (other === undefined) {
      iam.removeRole(arn);
    } else {
      iam.addRole(roleName, other);
    }
    return () => void iam.addRole(roleName, role);
  };
}

function withQuota(name: "fargateVcpus" | "networkInterfaces", value: number) {
  return ({ quotas }: Aws) => {
    const previous = quotas[name];
    quotas[name] = value;
    return () => {
      quotas[name] = previous;
    };
  };
}
