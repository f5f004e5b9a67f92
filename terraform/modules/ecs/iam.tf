# Two roles of tasks: ECS itself uses the execution role, the containers get the task role. Resources are always named.
# "*" stands only where AWS knows no resource for an action, or where a comment says why.

data "aws_iam_policy_document" "assume_role" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }

    # Nobody else's tasks, should somebody else come to know the role's name (the confused deputy).
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account_id]
    }

    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["${local.ecs_prefix}:*"]
    }
  }
}

# Execution role: pulls images, writes logs, reads the credentials of private registries.

resource "aws_iam_role" "execution" {
  assume_role_policy   = data.aws_iam_policy_document.assume_role.json
  description          = "ECS pulls images and writes logs for tasks of sockerless ${var.name}"
  name                 = "${local.role_prefix}-execution"
  permissions_boundary = var.iam_permissions_boundary_arn
  tags                 = merge(local.tags, { Name = "${local.role_prefix}-execution" })
}

# Wider than the policy below: images may come from any repository of the account.
resource "aws_iam_role_policy_attachment" "execution" {
  count = var.attach_execution_managed_policy ? 1 : 0

  policy_arn = "arn:${local.partition}:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
  role       = aws_iam_role.execution.name
}

data "aws_iam_policy_document" "execution" {
  statement {
    sid       = "RegistryLogin"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"] # a token is for all repositories of an account: AWS has no resource for it
  }

  dynamic "statement" {
    for_each = aws_ecr_repository.this[*].arn

    content {
      sid = "PullImages"
      actions = [
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:GetDownloadUrlForLayer",
      ]
      resources = [statement.value]
    }
  }

  statement {
    sid       = "WriteLogs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.containers.arn}:*"] # the group's streams
  }

  statement {
    sid       = "RegistryCredentials"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = [local.secrets_arn] # for private registries; users make them
  }

  dynamic "statement" {
    for_each = var.secrets_kms_key_arn == null ? [] : [var.secrets_kms_key_arn]

    content {
      sid       = "DecryptSecrets"
      actions   = ["kms:Decrypt"]
      resources = [statement.value]
    }
  }

  # The first pull of an image makes its repository and has ECR fetch it.
  dynamic "statement" {
    for_each = length(var.pull_through_caches) > 0 ? ["this"] : []

    content {
      sid = "PullThroughCaches"
      actions = [
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:BatchImportUpstreamImage",
        "ecr:CreateRepository",
        "ecr:GetDownloadUrlForLayer",
      ]
      resources = local.cached_repositories_arns
    }
  }
}

resource "aws_iam_role_policy" "execution" {
  name   = "images-and-logs"
  policy = data.aws_iam_policy_document.execution.json
  role   = aws_iam_role.execution.name
}

# Task role: what every container may do. The same document with placeholders is deploy/iam/task-policy.json.

resource "aws_iam_role" "task" {
  assume_role_policy   = data.aws_iam_policy_document.assume_role.json
  description          = "Containers of sockerless ${var.name}"
  name                 = "${local.role_prefix}-task"
  permissions_boundary = var.iam_permissions_boundary_arn
  tags                 = merge(local.tags, { Name = "${local.role_prefix}-task" })
}

data "aws_iam_policy_document" "task" {
  statement {
    sid = "Volumes"
    actions = [
      "elasticfilesystem:ClientMount",
      "elasticfilesystem:ClientRootAccess", # root in a container is root in its volumes
      "elasticfilesystem:ClientWrite",
    ]
    resources = [aws_efs_file_system.this.arn]

    condition {
      test     = "ArnLike"
      variable = "elasticfilesystem:AccessPointArn"
      values   = [local.access_points_arn]
    }

    condition {
      test     = "Bool"
      variable = "elasticfilesystem:AccessedViaMountTarget"
      values   = ["true"]
    }
  }

  statement {
    sid       = "MountTargets"
    actions   = ["elasticfilesystem:DescribeMountTargets"]
    resources = [aws_efs_file_system.this.arn]
  }

  statement {
    sid       = "WriteLogs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.containers.arn}:*"] # the group's streams
  }

  dynamic "statement" {
    for_each = var.task_cloud_map_registration ? ["this"] : []

    content {
      sid     = "CloudMapInstances"
      actions = ["servicediscovery:DeregisterInstance", "servicediscovery:RegisterInstance"]
      # Instances belong to services, which the backend makes when containers get names; their IDs are not known here.
      resources = [local.services_arn]

      condition {
        test     = "Null"
        variable = "aws:ResourceTag/sockerless-instance"
        values   = ["false"]
      }
    }
  }

  dynamic "statement" {
    for_each = var.task_cloud_map_registration ? ["this"] : []

    content {
      sid     = "CloudMapRecords"
      actions = ["route53:ChangeResourceRecordSets"] # Cloud Map writes an instance's record with its caller's rights
      resources = [
        "arn:${local.partition}:route53:::hostedzone/${aws_service_discovery_private_dns_namespace.this.hosted_zone}",
      ]
    }
  }
}

resource "aws_iam_role_policy" "task" {
  name   = "volumes-logs-and-names"
  policy = data.aws_iam_policy_document.task.json
  role   = aws_iam_role.task.name
}
