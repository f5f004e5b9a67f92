resource "aws_lb" "docker" {
  count = var.enable_load_balancer ? 1 : 0

  internal           = var.load_balancer_internal
  load_balancer_type = "network"
  name               = "${var.name}-docker"
  security_groups    = aws_security_group.load_balancer[*].id
  subnets            = local.load_balancer_subnet
  tags               = merge(local.tags, { Name = "${var.name}-docker" })

  lifecycle {
    precondition {
      condition     = length(var.published_ports) == 0
      error_message = "Published ports are reached on the service's own address: published_ports and enable_load_balancer exclude each other."
    }
  }
}

resource "aws_lb_target_group" "docker" {
  count = var.enable_load_balancer ? 1 : 0

  connection_termination = true # else clients would hang on a task that is gone
  deregistration_delay   = "30"
  name                   = "${var.name}-docker"
  port                   = var.docker_port
  protocol               = "TCP"
  tags                   = merge(local.tags, { Name = "${var.name}-docker" })
  target_type            = "ip"
  vpc_id                 = var.vpc_id

  health_check {
    healthy_threshold   = 2
    interval            = 10
    protocol            = "TCP"
    unhealthy_threshold = 2
  }
}

resource "aws_lb_listener" "docker" {
  count = var.enable_load_balancer ? 1 : 0

  load_balancer_arn        = aws_lb.docker[count.index].arn
  port                     = var.docker_port
  protocol                 = "TCP"
  tags                     = merge(local.tags, { Name = "${var.name}-docker" })
  tcp_idle_timeout_seconds = 6000 # the longest: attached sessions may be silent for long

  default_action {
    target_group_arn = aws_lb_target_group.docker[count.index].arn
    type             = "forward"
  }
}

resource "aws_security_group" "load_balancer" {
  count = var.enable_load_balancer ? 1 : 0

  description = "Load balancer of sockerless ${var.name}"
  name        = "${var.name}-load-balancer"
  tags        = merge(local.tags, { Name = "${var.name}-load-balancer" })
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_egress_rule" "load_balancer_to_service" {
  count = var.enable_load_balancer ? 1 : 0

  description                  = "Docker API and health checks"
  from_port                    = var.docker_port
  ip_protocol                  = "tcp"
  referenced_security_group_id = aws_security_group.service.id
  security_group_id            = aws_security_group.load_balancer[count.index].id
  tags                         = merge(local.tags, { Name = "${var.name}-load-balancer-egress" })
  to_port                      = var.docker_port
}

resource "aws_vpc_security_group_ingress_rule" "docker_from_load_balancer" {
  count = var.enable_load_balancer ? 1 : 0

  description                  = "Docker API and health checks"
  from_port                    = var.docker_port
  ip_protocol                  = "tcp"
  referenced_security_group_id = aws_security_group.load_balancer[count.index].id
  security_group_id            = aws_security_group.service.id
  tags                         = merge(local.tags, { Name = "${var.name}-docker-from-load-balancer" })
  to_port                      = var.docker_port
}
