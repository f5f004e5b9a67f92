import assert from "node:assert/strict";

import { expression, type HclBlock, type HclModule } from "../hcl-module.ts";
import { assertAttributes, assertDefault, type Criterion, change } from "./criterion.ts";

const perZone = "var.create_vpc ? local.zone_count : 0";

export const networkCriteria: readonly Criterion[] = [
  {
    number: 1,
    statement: "a VPC with a configurable CIDR, 10.0.0.0/16 by default",
    check: (module) => {
      assertAttributes(module.resource("aws_vpc"), { cidr_block: "var.vpc_cidr" });
      assertDefault(module, "vpc_cidr", "10.0.0.0/16");
    },
    brokenBy: [
      change("main.tf", "cidr_block           = var.vpc_cidr", 'cidr_block           = "10.0.0.0/16"'),
      change("variables.tf", '"10.0.0.0/16"\n\n  val', '"10.1.0.0/16"\n\n  val'),
    ],
  },
  {
    number: 2,
    statement: "a public subnet in each zone, two by default, with public addresses",
    check: (module) => {
      assertAttributes(module.resource("aws_subnet", "public"), {
        availability_zone: "element(local.zones, count.index)",
        cidr_block: "element(local.public_subnet_cidrs, count.index)",
        count: perZone,
        map_public_ip_on_launch: true,
      });
      assertDefault(module, "availability_zone_count", 2);
    },
    brokenBy: [
      change("main.tf", "map_public_ip_on_launch = true", "map_public_ip_on_launch = false"),
      change("main.tf", "availability_zone       = element(local.zones, count.index)", ""),
      change("variables.tf", "default     = 2", "default     = 1"),
    ],
  },
  {
    number: 3,
    statement: "a private subnet in each zone, where tasks run",
    check: (module) => {
      assertAttributes(module.resource("aws_subnet", "private"), {
        availability_zone: "element(local.zones, count.index)",
        cidr_block: "element(local.private_subnet_cidrs, count.index)",
        count: perZone,
        map_public_ip_on_launch: null,
      });
      assertDefault(module, "task_subnets", "private");
      assert.match(
        expression((module.local("sockerless_config") as HclBlock)["ecs"]),
        /subnets = var\.task_subnets == "public" \? local\.public_subnet_ids : local\.private_subnet_ids/,
      );
    },
    brokenBy: [
      change("main.tf", "  availability_zone = element(local.zones, count.index)\n", ""),
      change("variables.tf", 'default     = "private"', 'default     = "public"'),
      change(
        "locals.tf",
        ": local.private_subnet_ids\n        sec",
        ": local.public_subnet_ids\n        sec",
      ),
    ],
  },
  {
    number: 4,
    statement: "NAT gateways in public subnets, through which the private subnets reach 0.0.0.0/0",
    check: (module) => {
      assertAttributes(module.resource("aws_nat_gateway"), {
        allocation_id: "aws_eip.nat[count.index].id",
        count: "var.create_vpc ? var.nat_gateway_count : 0",
        subnet_id: "element(aws_subnet.public[*].id, count.index)",
      });
      assertAttributes(module.resource("aws_eip", "nat"), { domain: "vpc", vpc: null });
      assertAttributes(module.resource("aws_route_table", "private"), { count: perZone });
      assertAttributes(module.resource("aws_route", "nat"), {
        destination_cidr_block: "0.0.0.0/0",
        nat_gateway_id: "element(aws_nat_gateway.this[*].id, count.index)",
        route_table_id: "aws_route_table.private[count.index].id",
      });
      assertAttributes(module.resource("aws_route_table_association", "private"), {
        count: perZone,
        route_table_id: "aws_route_table.private[count.index].id",
        subnet_id: "aws_subnet.private[count.index].id",
      });
      assertDefault(module, "nat_gateway_count", 1);
    },
    brokenBy: [
      change("main.tf", "element(aws_subnet.public[*].id", "element(aws_subnet.private[*].id"),
      change(
        "main.tf",
        'destination_cidr_block = "0.0.0.0/0"\n  nat_',
        'destination_cidr_block = "10.0.0.0/8"\n  nat_',
      ),
      change("main.tf", "subnet_id      = aws_subnet.private[", "subnet_id      = aws_subnet.public["),
      change("variables.tf", "default     = 1\n", "default     = 0\n"),
    ],
  },
  {
    number: 5,
    statement: "an internet gateway for the public subnets",
    check: (module) => {
      assertAttributes(module.resource("aws_internet_gateway"), { vpc_id: "local.vpc_id" });
      assertAttributes(module.resource("aws_route", "internet"), {
        destination_cidr_block: "0.0.0.0/0",
        gateway_id: "one(aws_internet_gateway.this[*].id)",
        route_table_id: "one(aws_route_table.public[*].id)",
      });
      assertAttributes(module.resource("aws_route_table_association", "public"), {
        count: perZone,
        route_table_id: "one(aws_route_table.public[*].id)",
        subnet_id: "aws_subnet.public[count.index].id",
      });
    },
    brokenBy: [
      change("main.tf", 'resource "aws_internet_gateway" "this"', 'resource "aws_internet_gateway" "other"'),
      change("main.tf", "gateway_id             = one(aws_internet_gateway.this[*].id)", ""),
      change("main.tf", "subnet_id      = aws_subnet.public[", "subnet_id      = aws_subnet.private["),
    ],
  },
  {
    number: 6,
    statement: "zones, subnets and NAT gateways are configurable",
    check: (module) => {
      const settings = {
        availability_zone_count: "number",
        availability_zones: "list(string)",
        nat_gateway_count: "number",
        private_subnet_cidrs: "list(string)",
        public_subnet_cidrs: "list(string)",
      };
      for (const [name, type] of Object.entries(settings)) {
        assert.equal(expression(module.variable(name)["type"]), type, name);
      }
      assertUses(module, "zone_count", "var.availability_zones", "var.availability_zone_count");
      assertUses(module, "zones", "var.availability_zones", "data.aws_availability_zones.available.names");
      assertUses(module, "private_subnet_cidrs", "var.private_subnet_cidrs");
      assertUses(module, "public_subnet_cidrs", "var.public_subnet_cidrs");
    },
    brokenBy: [
      change(
        "locals.tf",
        "zone_count = length(var.availability_zones) > 0 ? length(var.availability_zones) : var.availability_zone_count",
        "zone_count = 2",
      ),
      change(
        "locals.tf",
        "private_subnet_cidrs = length(var.private_subnet_cidrs) > 0 ? var.private_subnet_cidrs : ",
        "private_subnet_cidrs = ",
      ),
      change("variables.tf", 'variable "nat_gateway_count"', 'variable "nat"'),
    ],
  },
];

function assertUses(module: HclModule, local: string, ...references: string[]): void {
  const text = expression(module.local(local));
  for (const reference of references) {
    assert.ok(text.includes(reference), `local.${local} uses ${reference}`);
  }
}
