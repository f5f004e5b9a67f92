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

  account_id  = data.aws_caller_identity.current.account_id
  partition   = data.aws_partition.current.partition
  region      = data.aws_region.current.name
  role_prefix = "${var.name}-service-${local.region}"

  keeps_state          = var.state_efs != null
  agent_ingress        = try(yamldecode(var.sockerless_config).ecs.agent_ingress, [])
  client_entrance      = var.enable_load_balancer ? one(aws_security_group.load_balancer[*].id) : aws_security_group.service.id
  load_balancer_subnet = length(var.load_balancer_subnet_ids) > 0 ? var.load_balancer_subnet_ids : var.subnet_ids

  # Everything that the service writes lies in two directories: one that is shared with the container that prepares it,
  # and the state. The root file system is read-only.
  run_dir   = "/run/sockerless"
  state_dir = local.keeps_state ? "/var/lib/sockerless" : "${local.run_dir}/state"
  user      = 10001
}
