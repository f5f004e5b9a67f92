# The infrastructure that the ECS backend of sockerless expects, in one account and region.
#
# Purpose: a network in which Fargate tasks run, an ECS cluster with Fargate and Fargate Spot, an EFS file system for
# volumes, a log group, a Cloud Map namespace, an ECR repository, the two roles of tasks, and the policy of the backend.
#
# Usage:
#
#   module "ecs" {
#     source      = "./modules/ecs"
#     environment = "production"
#
#     availability_zone_count = 3
#     nat_gateway_count       = 3
#   }
#
#   output "sockerless_config" {
#     value = module.ecs.sockerless_config # sockerless serve --config <file with this>
#   }
#
# Prerequisites: a configured provider hashicorp/aws 5.x, 5.49 or newer; rights to make the above; the service-linked
# role of ECS (`aws iam create-service-linked-role --aws-service-name ecs.amazonaws.com`, once for each account); a
# Fargate vCPU quota that fits the number of containers (6 in new accounts).
#
# This file holds the network and the cluster; volumes, roles, groups, logs, names and images are in files of their own.

data "aws_vpc" "existing" {
  count = var.create_vpc ? 0 : 1

  id = var.vpc_id

  lifecycle {
    precondition {
      condition     = var.vpc_id != null && length(var.private_subnet_ids) > 0
      error_message = "Without create_vpc, vpc_id and private_subnet_ids must name an existing VPC and its subnets."
    }
    postcondition {
      condition     = self.enable_dns_support != false && self.enable_dns_hostnames != false
      error_message = "The existing VPC must have DNS support and DNS host names: EFS and Cloud Map need them."
    }
  }
}

resource "aws_vpc" "this" {
  count = var.create_vpc ? 1 : 0

  cidr_block           = var.vpc_cidr
  enable_dns_hostnames = true
  enable_dns_support   = true
  tags                 = merge(local.tags, { Name = var.name })

  lifecycle {
    precondition {
      condition     = var.vpc_id == null && length(var.private_subnet_ids) + length(var.public_subnet_ids) == 0
      error_message = "vpc_id, private_subnet_ids and public_subnet_ids belong to an existing VPC: set create_vpc = false, or leave them out."
    }
    precondition {
      condition     = length(local.zones) == local.zone_count
      error_message = "The region has fewer availability zones than availability_zone_count."
    }
    precondition {
      condition     = length(local.private_subnet_cidrs) == local.zone_count && length(local.public_subnet_cidrs) == local.zone_count
      error_message = "private_subnet_cidrs and public_subnet_cidrs must be empty, or name one network for each availability zone."
    }
    precondition {
      condition     = (local.zone_count <= 15 && can(regex("/(1[6-9]|20)$", var.vpc_cidr))) || (length(var.private_subnet_cidrs) > 0 && length(var.public_subnet_cidrs) > 0)
      error_message = "Subnets are only computed for up to 15 zones and a VPC of /16 to /20 (a subnet has 16 addresses or more): name private_subnet_cidrs and public_subnet_cidrs."
    }
  }
}

resource "aws_internet_gateway" "this" {
  count = var.create_vpc ? 1 : 0

  tags   = merge(local.tags, { Name = var.name })
  vpc_id = local.vpc_id
}

resource "aws_subnet" "public" {
  count = var.create_vpc ? local.zone_count : 0

  availability_zone       = element(local.zones, count.index)
  cidr_block              = element(local.public_subnet_cidrs, count.index)
  map_public_ip_on_launch = true
  tags                    = merge(local.tags, { Name = "${var.name}-public-${element(local.zones, count.index)}" })
  vpc_id                  = local.vpc_id
}

resource "aws_subnet" "private" {
  count = var.create_vpc ? local.zone_count : 0

  availability_zone = element(local.zones, count.index)
  cidr_block        = element(local.private_subnet_cidrs, count.index)
  tags              = merge(local.tags, { Name = "${var.name}-private-${element(local.zones, count.index)}" })
  vpc_id            = local.vpc_id
}

resource "aws_route_table" "public" {
  count = var.create_vpc ? 1 : 0

  tags   = merge(local.tags, { Name = "${var.name}-public" })
  vpc_id = local.vpc_id
}

resource "aws_route" "internet" {
  count = var.create_vpc ? 1 : 0

  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = one(aws_internet_gateway.this[*].id)
  route_table_id         = one(aws_route_table.public[*].id)
}

resource "aws_route_table_association" "public" {
  count = var.create_vpc ? local.zone_count : 0

  route_table_id = one(aws_route_table.public[*].id)
  subnet_id      = aws_subnet.public[count.index].id
}

resource "aws_eip" "nat" {
  count = var.create_vpc ? var.nat_gateway_count : 0

  domain = "vpc"
  tags   = merge(local.tags, { Name = "${var.name}-nat-${count.index}" })

  depends_on = [aws_internet_gateway.this]
}

resource "aws_nat_gateway" "this" {
  count = var.create_vpc ? var.nat_gateway_count : 0

  allocation_id = aws_eip.nat[count.index].id
  subnet_id     = element(aws_subnet.public[*].id, count.index)
  tags          = merge(local.tags, { Name = "${var.name}-${count.index}" })

  depends_on = [aws_internet_gateway.this]

  lifecycle {
    precondition {
      condition     = var.nat_gateway_count <= local.zone_count
      error_message = "There are more NAT gateways than availability zones: nat_gateway_count is at most one for each zone."
    }
  }
}

# Each zone has a table of its own, so that it can use the gateway of its own zone.
resource "aws_route_table" "private" {
  count = var.create_vpc ? local.zone_count : 0

  tags   = merge(local.tags, { Name = "${var.name}-private-${element(local.zones, count.index)}" })
  vpc_id = local.vpc_id
}

resource "aws_route" "nat" {
  count = var.create_vpc && var.nat_gateway_count > 0 ? local.zone_count : 0

  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = element(aws_nat_gateway.this[*].id, count.index)
  route_table_id         = aws_route_table.private[count.index].id
}

resource "aws_route_table_association" "private" {
  count = var.create_vpc ? local.zone_count : 0

  route_table_id = aws_route_table.private[count.index].id
  subnet_id      = aws_subnet.private[count.index].id
}

check "tasks_can_pull_images" {
  assert {
    condition     = !var.create_vpc || var.nat_gateway_count > 0 || var.enable_vpc_endpoints || var.task_subnets == "public"
    error_message = "Tasks in the private subnets reach no registry: there is no NAT gateway, no VPC endpoint, and they have no public address."
  }
}

resource "aws_ecs_cluster" "this" {
  name = var.name
  tags = merge(local.tags, { Name = var.name })

  setting {
    name  = "containerInsights"
    value = var.enable_container_insights ? "enabled" : "disabled"
  }

  lifecycle {
    precondition {
      condition     = var.create_vpc || var.task_subnets == "private" || length(var.public_subnet_ids) > 0
      error_message = "Tasks in the public subnets of an existing VPC need public_subnet_ids."
    }
  }
}

resource "aws_ecs_cluster_capacity_providers" "this" {
  capacity_providers = ["FARGATE", "FARGATE_SPOT"]
  cluster_name       = aws_ecs_cluster.this.name

  default_capacity_provider_strategy {
    capacity_provider = var.capacity_provider
    weight            = 1
  }
}
