data "aws_availability_zones" "available" {
  state = "available"

  # Local and wavelength zones have neither Fargate nor EFS.
  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

locals {
  tags = merge(var.tags, {
    project     = "sockerless"
    environment = var.environment
    component   = "ecs"
    managed-by  = "terraform"
  })

  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition
  region     = data.aws_region.current.name

  # Roles belong to the account, not to a region: without the region two instances of one name would collide.
  role_prefix = "${var.name}-${local.region}"

  log_group_name           = coalesce(var.log_group_name, "/${var.name}/containers")
  cloud_map_namespace_name = coalesce(var.cloud_map_namespace_name, "${var.name}.local")

  zone_count = length(var.availability_zones) > 0 ? length(var.availability_zones) : var.availability_zone_count
  zones = length(var.availability_zones) > 0 ? var.availability_zones : slice(
    data.aws_availability_zones.available.names,
    0,
    min(local.zone_count, length(data.aws_availability_zones.available.names)),
  )

  # The first fifteen sixteenths of the VPC are for private subnets, the last one for public subnets. The cut does not
  # depend on the number of zones, so a zone can be added without renumbering the others.
  computed_private_subnet_cidrs = [
    for index in range(local.zone_count) : try(cidrsubnet(var.vpc_cidr, 4, index), "")
  ]
  computed_public_subnet_cidrs = [
    for index in range(local.zone_count) : try(cidrsubnet(var.vpc_cidr, 8, 240 + index), "")
  ]
  private_subnet_cidrs = length(var.private_subnet_cidrs) > 0 ? var.private_subnet_cidrs : local.computed_private_subnet_cidrs
  public_subnet_cidrs  = length(var.public_subnet_cidrs) > 0 ? var.public_subnet_cidrs : local.computed_public_subnet_cidrs

  vpc_id                  = var.create_vpc ? one(aws_vpc.this[*].id) : var.vpc_id
  vpc_cidr                = var.create_vpc ? var.vpc_cidr : one(data.aws_vpc.existing[*].cidr_block)
  private_subnet_ids      = var.create_vpc ? aws_subnet.private[*].id : var.private_subnet_ids
  public_subnet_ids       = var.create_vpc ? aws_subnet.public[*].id : var.public_subnet_ids
  private_route_table_ids = var.create_vpc ? aws_route_table.private[*].id : var.private_route_table_ids

  # Some services' endpoints have another name in China; `aws ec2 describe-vpc-endpoint-services` there lists them.
  china_endpoint_services = ["ec2", "ecr.api", "ecr.dkr", "elasticfilesystem", "sts"]

  agents_call                  = var.callback_url != null
  agent_ingress_is_open_to_vpc = !local.agents_call && length(var.agent_ingress_cidrs) + length(var.agent_ingress_security_group_ids) == 0
  agent_ingress_cidrs          = local.agent_ingress_is_open_to_vpc ? [local.vpc_cidr] : var.agent_ingress_cidrs

  ecs_prefix           = "arn:${local.partition}:ecs:${local.region}:${local.account_id}"
  ec2_prefix           = "arn:${local.partition}:ec2:${local.region}:${local.account_id}"
  tasks_arn            = "${local.ecs_prefix}:task/${var.name}/*"
  task_definitions_arn = "${local.ecs_prefix}:task-definition/sockerless-*:*"
  vpc_arn              = "${local.ec2_prefix}:vpc/${local.vpc_id}"
  security_groups_arn  = "${local.ec2_prefix}:security-group/*"
  access_points_arn    = "arn:${local.partition}:elasticfilesystem:${local.region}:${local.account_id}:access-point/*"
  services_arn         = "arn:${local.partition}:servicediscovery:${local.region}:${local.account_id}:service/*"
  secrets_arn          = "arn:${local.partition}:secretsmanager:${local.region}:${local.account_id}:secret:sockerless/${var.name}/*"

  # As `ecs-service` names its role, and the user that it runs as.
  service_role_arns = {
    for service in var.state_services :
    service => "arn:${local.partition}:iam::${local.account_id}:role/${service}-service-${local.region}-backend"
  }
  service_user = 10001

  # The repositories that the first pulls make, and what the configuration says of the caches.
  cached_repositories_arns = [
    for prefix in values(var.pull_through_caches) :
    "arn:${local.partition}:ecr:${local.region}:${local.account_id}:repository/${prefix}/*"
  ]
  pull_through_caches = [
    for host, prefix in var.pull_through_caches :
    "${host}=${local.account_id}.dkr.ecr.${local.region}.${data.aws_partition.current.dns_suffix}/${prefix}"
  ]

  # Keys and values as the backend's configuration file wants them.
  sockerless_config = {
    backend = "ecs"
    ecs = {
      for key, value in {
        region                 = local.region
        cluster                = aws_ecs_cluster.this.name
        subnets                = var.task_subnets == "public" ? local.public_subnet_ids : local.private_subnet_ids
        security_groups        = [aws_security_group.task.id]
        execution_role_arn     = aws_iam_role.execution.arn
        task_role_arn          = aws_iam_role.task.arn
        efs_filesystem_id      = aws_efs_file_system.this.id
        efs_security_group_id  = aws_security_group.efs.id
        efs_iam                = true
        log_group              = aws_cloudwatch_log_group.containers.name
        capacity_provider      = var.capacity_provider
        assign_public_ip       = var.task_subnets == "public"
        ecr_repository         = one(aws_ecr_repository.this[*].repository_url)
        pull_through_caches    = length(local.pull_through_caches) > 0 ? local.pull_through_caches : null
        agent_ingress          = concat(local.agent_ingress_cidrs, var.agent_ingress_security_group_ids)
        agent_mode             = local.agents_call ? "callback" : null
        callback_url           = var.callback_url
        callback_listen        = var.callback_listen
        cloud_map_namespace_id = aws_service_discovery_private_dns_namespace.this.id
      } : key => value if value != null
    }
  }
}
