# Volumes: each Docker volume is an access point of this file system, made by the backend.

resource "aws_efs_file_system" "this" {
  encrypted                       = var.efs_encrypted
  kms_key_id                      = var.efs_kms_key_arn
  performance_mode                = var.efs_performance_mode
  provisioned_throughput_in_mibps = var.efs_provisioned_throughput_mibps
  tags                            = merge(local.tags, { Name = var.name })
  throughput_mode                 = var.efs_throughput_mode

  dynamic "lifecycle_policy" {
    for_each = var.efs_transition_to_ia == null ? [] : [var.efs_transition_to_ia]

    content {
      transition_to_ia = lifecycle_policy.value
    }
  }

  lifecycle {
    precondition {
      condition     = (var.efs_throughput_mode == "provisioned") == (var.efs_provisioned_throughput_mibps != null)
      error_message = "efs_provisioned_throughput_mibps goes with efs_throughput_mode = \"provisioned\", and only with it."
    }
    precondition {
      condition     = var.efs_encrypted || var.efs_kms_key_arn == null
      error_message = "efs_kms_key_arn goes with efs_encrypted = true."
    }
    precondition {
      condition     = var.efs_performance_mode != "maxIO" || var.efs_throughput_mode != "elastic"
      error_message = "EFS has no elastic throughput in the performance mode maxIO."
    }
  }
}

# A task in a zone without a mount target fails to start, so every private subnet gets one.
resource "aws_efs_mount_target" "this" {
  count = length(local.private_subnet_ids)

  file_system_id  = aws_efs_file_system.this.id
  security_groups = [aws_security_group.efs.id]
  subnet_id       = local.private_subnet_ids[count.index]
}

# States of services, as `ecs-service` mounts them. They are made here, because a file system has one policy.
resource "aws_efs_access_point" "state" {
  for_each = toset(var.state_services)

  file_system_id = aws_efs_file_system.this.id
  tags           = merge(local.tags, { Name = "${each.value}-service-state" })

  posix_user {
    gid = local.service_user
    uid = local.service_user
  }

  root_directory {
    path = "/sockerless/state/${each.value}"

    creation_info {
      owner_gid   = local.service_user
      owner_uid   = local.service_user
      permissions = "0700"
    }
  }
}

# It allows nothing, so that nobody mounts without a right of his own, and says what such a right never reaches. The same
# document with placeholders is deploy/iam/file-system-policy.json.
data "aws_iam_policy_document" "efs" {
  statement {
    sid       = "EncryptedConnectionsOnly"
    effect    = "Deny"
    actions   = ["elasticfilesystem:Client*"]
    resources = [aws_efs_file_system.this.arn]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }

  statement {
    sid       = "MountTargetsOnly"
    effect    = "Deny"
    actions   = ["elasticfilesystem:Client*"]
    resources = [aws_efs_file_system.this.arn]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "elasticfilesystem:AccessedViaMountTarget"
      values   = ["false"]
    }
  }

  # Any container speaks NFS, without privileges: what bounds it is the root directory of an access point.
  statement {
    sid       = "AccessPointsOnly"
    effect    = "Deny"
    actions   = ["elasticfilesystem:Client*"]
    resources = [aws_efs_file_system.this.arn]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }

    condition {
      test     = "Null"
      variable = "elasticfilesystem:AccessPointArn"
      values   = ["true"]
    }

    dynamic "condition" {
      for_each = length(var.efs_administrator_role_arns) > 0 ? ["this"] : []

      content {
        test     = "ArnNotEquals"
        variable = "aws:PrincipalArn"
        values   = var.efs_administrator_role_arns
      }
    }
  }

  dynamic "statement" {
    for_each = var.state_services

    content {
      sid       = "State${statement.key}"
      effect    = "Deny"
      actions   = ["elasticfilesystem:Client*"]
      resources = [aws_efs_file_system.this.arn]

      principals {
        type        = "AWS"
        identifiers = ["*"]
      }

      condition {
        test     = "ArnEquals"
        variable = "elasticfilesystem:AccessPointArn"
        values   = [aws_efs_access_point.state[statement.value].arn]
      }

      condition {
        test     = "ArnNotEquals"
        variable = "aws:PrincipalArn"
        values   = [local.service_role_arns[statement.value]]
      }
    }
  }
}

resource "aws_efs_file_system_policy" "this" {
  file_system_id = aws_efs_file_system.this.id
  policy         = data.aws_iam_policy_document.efs.json
}
