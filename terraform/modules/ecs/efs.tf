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

# Only encrypted connections, and only through a mount target. Who reaches those is decided by their security group.
data "aws_iam_policy_document" "efs" {
  statement {
    sid = "ClientsThroughMountTargets"
    actions = [
      "elasticfilesystem:ClientMount",
      "elasticfilesystem:ClientRootAccess",
      "elasticfilesystem:ClientWrite",
    ]
    resources = [aws_efs_file_system.this.arn]

    principals {
      type        = "AWS"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "elasticfilesystem:AccessedViaMountTarget"
      values   = ["true"]
    }
  }

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
}

resource "aws_efs_file_system_policy" "this" {
  file_system_id = aws_efs_file_system.this.id
  policy         = data.aws_iam_policy_document.efs.json
}
