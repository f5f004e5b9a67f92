resource "aws_security_group" "service" {
  description = "Service of sockerless ${var.name}"
  name        = "${var.name}-service"
  tags        = merge(local.tags, { Name = "${var.name}-service" })
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_egress_rule" "service_to_anywhere" {
  cidr_ipv4         = "0.0.0.0/0"
  description       = "AWS, registries and containers"
  ip_protocol       = "-1"
  security_group_id = aws_security_group.service.id
  tags              = merge(local.tags, { Name = "${var.name}-service-egress" })
}

resource "aws_vpc_security_group_ingress_rule" "docker" {
  count = length(var.client_cidrs)

  cidr_ipv4         = var.client_cidrs[count.index]
  description       = "Docker API, mutual TLS"
  from_port         = var.docker_port
  ip_protocol       = "tcp"
  security_group_id = local.client_entrance
  tags              = merge(local.tags, { Name = "${var.name}-docker" })
  to_port           = var.docker_port
}

resource "aws_vpc_security_group_ingress_rule" "published" {
  for_each = {
    for pair in setproduct(var.client_cidrs, var.published_ports) : "${pair[0]} ${pair[1].from}-${pair[1].to}" => {
      cidr  = pair[0]
      range = pair[1]
    }
  }

  cidr_ipv4         = each.value.cidr
  description       = "Published ports of containers"
  from_port         = each.value.range.from
  ip_protocol       = "tcp"
  security_group_id = aws_security_group.service.id
  tags              = merge(local.tags, { Name = "${var.name}-published" })
  to_port           = each.value.range.to
}

# In the groups of others: their agents, and the file system of the state.

resource "aws_vpc_security_group_ingress_rule" "agents" {
  description                  = "Service of sockerless ${var.name} to the agents"
  from_port                    = 9111
  ip_protocol                  = "tcp"
  referenced_security_group_id = aws_security_group.service.id
  security_group_id            = var.task_security_group_id
  tags                         = merge(local.tags, { Name = "${var.name}-service-to-agents" })
  to_port                      = 9111
}

resource "aws_vpc_security_group_ingress_rule" "state" {
  count = local.keeps_state ? 1 : 0

  description                  = "Service of sockerless ${var.name} to its state"
  from_port                    = 2049
  ip_protocol                  = "tcp"
  referenced_security_group_id = aws_security_group.service.id
  security_group_id            = var.state_efs.security_group_id
  tags                         = merge(local.tags, { Name = "${var.name}-service-to-efs" })
  to_port                      = 2049
}
