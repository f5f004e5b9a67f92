data "aws_iam_policy_document" "assume_role" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account_id]
    }

    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["arn:${local.partition}:ecs:${local.region}:${local.account_id}:*"]
    }
  }
}

# Execution role: the service's image, log and secrets.

resource "aws_iam_role" "execution" {
  assume_role_policy   = data.aws_iam_policy_document.assume_role.json
  description          = "ECS starts the service sockerless ${var.name}"
  name                 = "${local.role_prefix}-execution"
  permissions_boundary = var.iam_permissions_boundary_arn
  tags                 = merge(local.tags, { Name = "${local.role_prefix}-execution" })
}

data "aws_iam_policy_document" "execution" {
  dynamic "statement" {
    for_each = var.image_repository_arn == null ? [] : ["this"]

    content {
      sid       = "RegistryLogin"
      actions   = ["ecr:GetAuthorizationToken"]
      resources = ["*"] # a token is for all repositories of an account: AWS has no resource for it
    }
  }

  dynamic "statement" {
    for_each = var.image_repository_arn == null ? [] : [var.image_repository_arn]

    content {
      sid = "PullImage"
      actions = [
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:GetDownloadUrlForLayer",
      ]
      resources = [statement.value]
    }
  }

  statement {
    sid       = "WriteLog"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.service.arn}:*"] # the group's streams
  }

  statement {
    sid       = "ReadSecrets"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = concat([var.agent_ca_secret_arn], values(var.tls_secret_arns))
  }

  dynamic "statement" {
    for_each = var.secrets_kms_key_arn == null ? [] : [var.secrets_kms_key_arn]

    content {
      sid       = "DecryptSecrets"
      actions   = ["kms:Decrypt"]
      resources = [statement.value]
    }
  }
}

resource "aws_iam_role_policy" "execution" {
  name   = "image-log-and-secrets"
  policy = data.aws_iam_policy_document.execution.json
  role   = aws_iam_role.execution.name
}

# Role of the service: the backend's policy, and its own state.

resource "aws_iam_role" "backend" {
  assume_role_policy   = data.aws_iam_policy_document.assume_role.json
  description          = "Backend of sockerless ${var.name}"
  name                 = "${local.role_prefix}-backend"
  permissions_boundary = var.iam_permissions_boundary_arn
  tags                 = merge(local.tags, { Name = "${local.role_prefix}-backend" })
}

resource "aws_iam_role_policy" "backend" {
  name   = "backend"
  policy = var.backend_policy_json
  role   = aws_iam_role.backend.name
}

data "aws_iam_policy_document" "state" {
  count = local.keeps_state ? 1 : 0

  statement {
    sid       = "State"
    actions   = ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"]
    resources = ["arn:${local.partition}:elasticfilesystem:${local.region}:${local.account_id}:file-system/${var.state_efs.filesystem_id}"]

    condition {
      test     = "ArnEquals"
      variable = "elasticfilesystem:AccessPointArn"
      values   = [var.state_efs.access_point_arn]
    }
  }
}

resource "aws_iam_role_policy" "state" {
  count = local.keeps_state ? 1 : 0

  name   = "state"
  policy = data.aws_iam_policy_document.state[count.index].json
  role   = aws_iam_role.backend.name
}
