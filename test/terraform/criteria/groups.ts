// biome-ignore-all lint/suspicious/noTemplateCurlyInString: expressions of Terraform
import assert from "node:assert/strict";

import type { HclBlock, HclModule } from "../hcl-module.ts";
import { assertAttributes, assertDefault, type Criterion, change } from "./criterion.ts";

const rules = {
  ingress: "aws_vpc_security_group_ingress_rule",
  egress: "aws_vpc_security_group_egress_rule",
} as const;

export const groupCriteria: readonly Criterion[] = [
  {
    number: 11,
    statement: "the mount targets' group lets in NFS from the tasks' group only",
    check: (module) => {
      const ingress = rulesOf(module, "ingress", "efs");
      assert.equal(ingress.length, 1);
      assertAttributes(ingress[0] ?? {}, {
        cidr_ipv4: null,
        from_port: 2049,
        ip_protocol: "tcp",
        referenced_security_group_id: "aws_security_group.task.id",
        to_port: 2049,
      });
      assert.deepEqual(module.resource("aws_efs_mount_target")["security_groups"], [
        "${aws_security_group.efs.id}",
      ]);
    },
    brokenBy: [
      change("security_groups.tf", "from_port                    = 2049", "from_port                    = 0"),
      change(
        "security_groups.tf",
        "referenced_security_group_id = aws_security_group.task.id\n  security_group_id            = aws_security_group.efs.id",
        'cidr_ipv4                    = "10.0.0.0/16"\n  security_group_id            = aws_security_group.efs.id',
      ),
      change("efs.tf", "[aws_security_group.efs.id]", "[aws_security_group.task.id]"),
    ],
  },
  {
    number: 19,
    statement:
      "the tasks' group lets in itself, and port 9111 from a configurable network or group, and lets out all",
    check: (module) => {
      const [self, fromCidr, fromGroup, ...others] = rulesOf(module, "ingress", "task");
      assertAttributes(self ?? {}, {
        from_port: null,
        ip_protocol: "-1",
        referenced_security_group_id: "aws_security_group.task.id",
      });
      const agent = { from_port: 9111, ip_protocol: "tcp", to_port: 9111 };
      assertAttributes(fromCidr ?? {}, {
        ...agent,
        cidr_ipv4: "local.agent_ingress_cidrs[count.index]",
        count: "length(local.agent_ingress_cidrs)",
      });
      assertAttributes(fromGroup ?? {}, {
        ...agent,
        count: "length(var.agent_ingress_security_group_ids)",
        referenced_security_group_id: "var.agent_ingress_security_group_ids[count.index]",
      });
      assert.deepEqual(others, []);
      assertDefault(module, "agent_ingress_cidrs", []);
      assertDefault(module, "agent_ingress_security_group_ids", []);

      const egress = rulesOf(module, "egress", "task");
      assert.equal(egress.length, 1);
      assertAttributes(egress[0] ?? {}, { cidr_ipv4: "0.0.0.0/0", ip_protocol: "-1" });
    },
    brokenBy: [
      change(
        "security_groups.tf",
        "referenced_security_group_id = aws_security_group.task.id\n  security_group_id            = aws_security_group.task.id",
        'cidr_ipv4 = "10.0.0.0/8"\n  security_group_id            = aws_security_group.task.id',
      ),
      change("security_groups.tf", "9111", "9112"),
      change("security_groups.tf", 'cidr_ipv4         = "0.0.0.0/0"', 'cidr_ipv4         = "10.0.0.0/8"'),
    ],
  },
  {
    number: 20,
    statement: "tasks and mount targets have separate groups whose rules are resources of their own",
    check: (module) => {
      for (const name of ["task", "efs"]) {
        const group = module.resource("aws_security_group", name);
        assertAttributes(group, { egress: null, ingress: null, vpc_id: "local.vpc_id" });
      }
      assert.deepEqual(rulesOf(module, "egress", "efs"), []);
      assert.equal(rulesOf(module, "ingress", "task").length, 3);
      assert.equal(rulesOf(module, "ingress", "efs").length, 1);
    },
    brokenBy: [
      change(
        "security_groups.tf",
        "security_group_id            = aws_security_group.efs.id",
        "security_group_id            = aws_security_group.task.id",
      ),
      change(
        "security_groups.tf",
        'resource "aws_security_group" "efs" {',
        'resource "aws_security_group" "efs" {\n  ingress {\n    from_port = 0\n    protocol  = "-1"\n    to_port   = 0\n  }',
      ),
    ],
  },
];

function rulesOf(module: HclModule, direction: keyof typeof rules, group: string): HclBlock[] {
  return module
    .resourcesOf(rules[direction])
    .map(({ body }) => body)
    .filter((body) => body["security_group_id"] === `\${aws_security_group.${group}.id}`)
    .sort((left, right) => order(left) - order(right));
}

/** Rules in the order of the criterion: from a group itself, from networks, from other groups. */
function order(rule: HclBlock): number {
  return rule["count"] === undefined ? 0 : "cidr_ipv4" in rule ? 1 : 2;
}
