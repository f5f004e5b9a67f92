# A small and cheap place to try the ECS backend: no NAT gateway (tasks have public addresses that nothing from outside
# reaches), Fargate Spot, logs for a week. While no container runs it costs next to nothing. With `image` set,
# sockerless itself runs here too.

module "ecs" {
  source = "../../modules/ecs"

  agent_ingress_cidrs              = var.agent_ingress_cidrs
  agent_ingress_security_group_ids = var.agent_ingress_security_group_ids
  availability_zone_count          = 2
  capacity_provider                = "FARGATE_SPOT"
  ecr_force_delete                 = true
  enable_container_insights        = false
  environment                      = "test"
  log_retention_days               = 7
  name                             = var.name
  nat_gateway_count                = 0
  state_services                   = [var.name]
  task_subnets                     = "public"
}

module "service" {
  source = "../../modules/ecs-service"
  count  = var.image == null ? 0 : 1

  agent_ca_secret_arn    = var.agent_ca_secret_arn
  assign_public_ip       = true
  backend_policy_json    = module.ecs.backend_policy_json
  client_cidrs           = var.client_cidrs
  cluster_arn            = module.ecs.ecs_cluster_arn
  environment            = "test"
  image                  = var.image
  image_repository_arn   = module.ecs.ecr_repository_arn
  log_retention_days     = 7
  name                   = var.name
  sockerless_config      = module.ecs.sockerless_config
  subnet_ids             = module.ecs.public_subnet_ids
  task_security_group_id = module.ecs.task_security_group_id
  tls_secret_arns        = var.tls_secret_arns
  vpc_id                 = module.ecs.vpc_id

  cloud_map = {
    namespace_id = module.ecs.cloud_map_namespace_id
  }

  state_efs = module.ecs.state_efs[var.name]
}
