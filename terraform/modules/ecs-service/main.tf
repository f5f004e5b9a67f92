# sockerless itself as an ECS service: frontend and backend in one Fargate task, in the VPC of its containers.
#
# Purpose: a Docker API at a port with mutual TLS, for clients in the VPC or behind a load balancer, whose containers
# run in the cluster that the module `ecs` made.
#
# Usage:
#
#   module "sockerless" {
#     source = "./modules/ecs-service"
#
#     backend_policy_json    = module.ecs.backend_policy_json
#     cluster_arn            = module.ecs.ecs_cluster_arn
#     sockerless_config      = module.ecs.sockerless_config
#     subnet_ids             = module.ecs.private_subnet_ids
#     task_security_group_id = module.ecs.task_security_group_id
#     vpc_id                 = module.ecs.vpc_id
#
#     state_efs = module.ecs.state_efs["sockerless"] # with state_services = ["sockerless"] there
#
#     image               = "123456789012.dkr.ecr.us-east-1.amazonaws.com/sockerless:0.1.0"
#     agent_ca_secret_arn = "arn:aws:secretsmanager:…"
#     tls_secret_arns     = { ca = "arn:…", cert = "arn:…", key = "arn:…" }
#     client_cidrs        = ["10.0.0.0/16"]
#   }
#
# Prerequisites: the image in a registry, four secrets in Secrets Manager (terraform/README.md has the commands).

resource "aws_cloudwatch_log_group" "service" {
  name              = "/${var.name}/service"
  retention_in_days = var.log_retention_days
  tags              = merge(local.tags, { Name = "/${var.name}/service" })
}

resource "aws_ecs_service" "this" {
  availability_zone_rebalancing      = "DISABLED" # it would start a second task before the first ends
  cluster                            = var.cluster_arn
  deployment_maximum_percent         = 100
  deployment_minimum_healthy_percent = 0
  desired_count                      = 1
  enable_ecs_managed_tags            = true
  health_check_grace_period_seconds  = var.enable_load_balancer ? 60 : null
  launch_type                        = "FARGATE"
  name                               = "${var.name}-service"
  propagate_tags                     = "SERVICE"
  tags                               = merge(local.tags, { Name = "${var.name}-service" })
  task_definition                    = aws_ecs_task_definition.this.arn

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    assign_public_ip = var.assign_public_ip
    security_groups  = [aws_security_group.service.id]
    subnets          = var.subnet_ids
  }

  dynamic "load_balancer" {
    for_each = aws_lb_target_group.docker[*].arn

    content {
      container_name   = "sockerless"
      container_port   = var.docker_port
      target_group_arn = load_balancer.value
    }
  }

  dynamic "service_registries" {
    for_each = aws_service_discovery_service.docker[*].arn

    content {
      registry_arn = service_registries.value
    }
  }

  depends_on = [aws_iam_role_policy.backend, aws_iam_role_policy.execution, aws_lb_listener.docker]
}

# `docker.<namespace>` is the service's address in the VPC.
resource "aws_service_discovery_service" "docker" {
  count = var.cloud_map == null ? 0 : 1

  description = "Docker API of sockerless ${var.name}"
  name        = "docker"
  tags        = merge(local.tags, { Name = "${var.name}-docker" })

  dns_config {
    namespace_id = var.cloud_map.namespace_id

    dns_records {
      ttl  = 10
      type = "A"
    }
  }
}
