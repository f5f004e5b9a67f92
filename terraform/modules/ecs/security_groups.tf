# Rules are resources of their own: the backend and other modules add theirs without a conflict.

# The default Docker network: containers in it reach one another on every port.
resource "aws_security_group" "task" {
  description = "Tasks of sockerless ${var.name}"
  name        = "${var.name}-task"
  tags        = merge(local.tags, { Name = "${var.name}-task" })
  vpc_id      = local.vpc_id

  lifecycle {
    precondition {
      condition     = !local.agents_call || length(var.agent_ingress_cidrs) + length(var.agent_ingress_security_group_ids) == 0
      error_message = "Agents that call are reached by nobody: leave agent_ingress_cidrs and agent_ingress_security_group_ids out, or callback_url."
    }

    precondition {
      condition     = local.agents_call || var.callback_listen == null
      error_message = "callback_listen is for agents that call: set callback_url, too."
    }
  }
}

resource "aws_vpc_security_group_ingress_rule" "task_from_task" {
  description                  = "Containers of the default network, on every port"
  ip_protocol                  = "-1"
  referenced_security_group_id = aws_security_group.task.id
  security_group_id            = aws_security_group.task.id
  tags                         = merge(local.tags, { Name = "${var.name}-task-from-task" })
}

resource "aws_vpc_security_group_ingress_rule" "agent_from_cidr" {
  count = length(local.agent_ingress_cidrs)

  cidr_ipv4         = local.agent_ingress_cidrs[count.index]
  description       = "Frontends and backends to the agents"
  from_port         = 9111
  ip_protocol       = "tcp"
  security_group_id = aws_security_group.task.id
  tags              = merge(local.tags, { Name = "${var.name}-agent" })
  to_port           = 9111
}

resource "aws_vpc_security_group_ingress_rule" "agent_from_security_group" {
  count = length(var.agent_ingress_security_group_ids)

  description                  = "Frontends and backends to the agents"
  from_port                    = 9111
  ip_protocol                  = "tcp"
  referenced_security_group_id = var.agent_ingress_security_group_ids[count.index]
  security_group_id            = aws_security_group.task.id
  tags                         = merge(local.tags, { Name = "${var.name}-agent" })
  to_port                      = 9111
}

resource "aws_vpc_security_group_egress_rule" "task_to_anywhere" {
  cidr_ipv4         = "0.0.0.0/0"
  description       = "Everything, as Docker lets containers"
  ip_protocol       = "-1"
  security_group_id = aws_security_group.task.id
  tags              = merge(local.tags, { Name = "${var.name}-task-egress" })
}

# Mount targets only answer, so the group has no egress rule.
resource "aws_security_group" "efs" {
  description = "EFS mount targets of sockerless ${var.name}"
  name        = "${var.name}-efs"
  tags        = merge(local.tags, { Name = "${var.name}-efs" })
  vpc_id      = local.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "efs_from_task" {
  description                  = "NFS from tasks"
  from_port                    = 2049
  ip_protocol                  = "tcp"
  referenced_security_group_id = aws_security_group.task.id
  security_group_id            = aws_security_group.efs.id
  tags                         = merge(local.tags, { Name = "${var.name}-efs-from-task" })
  to_port                      = 2049
}
