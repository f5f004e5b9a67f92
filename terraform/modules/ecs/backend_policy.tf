# Permissions of the backend itself: an output, for the role or user that runs `sockerless serve --backend
# ecs`. The same document with placeholders is deploy/iam/backend-policy.json. It keeps below the 6,144
# characters of a managed policy.

data "aws_iam_policy_document" "backend" {
  statement {
    sid = "WithoutResourceLevel"
    actions = [
      "ec2:DescribeSecurityGroups",
      "ec2:DescribeSubnets",
      "ecr:GetAuthorizationToken",
      "ecs:DeregisterTaskDefinition",
      "ecs:DescribeTaskDefinition",
      "ecs:ListTaskDefinitionFamilies",
      "ecs:ListTaskDefinitions",
      "logs:DescribeLogGroups",
      "servicediscovery:ListServices",
      "servicequotas:GetServiceQuota",
    ]
    resources = ["*"] # AWS has no resource for these actions
  }

  statement {
    sid       = "TaskDefinitions"
    actions   = ["ecs:DeleteTaskDefinitions", "ecs:RegisterTaskDefinition"]
    resources = [local.task_definitions_arn]
  }

  statement {
    sid       = "RunTasks"
    actions   = ["ecs:RunTask"]
    resources = [local.task_definitions_arn]

    condition {
      test     = "ArnEquals"
      variable = "ecs:cluster"
      values   = [aws_ecs_cluster.this.arn]
    }
  }

  statement {
    sid       = "ListTasks"
    actions   = ["ecs:ListTasks"]
    resources = ["*"] # the resource is a container instance, which Fargate has none of: the condition names the cluster

    condition {
      test     = "ArnEquals"
      variable = "ecs:cluster"
      values   = [aws_ecs_cluster.this.arn]
    }
  }

  statement {
    sid       = "Tasks"
    actions   = ["ecs:DescribeTasks", "ecs:StopTask"]
    resources = [local.tasks_arn]
  }

  statement {
    sid       = "Cluster"
    actions   = ["ecs:DescribeClusters"]
    resources = [aws_ecs_cluster.this.arn]
  }

  statement {
    sid       = "TagNewTasks"
    actions   = ["ecs:TagResource"]
    resources = [local.task_definitions_arn, local.tasks_arn]

    condition {
      test     = "StringEquals"
      variable = "ecs:CreateAction"
      values   = ["RegisterTaskDefinition", "RunTask"]
    }
  }

  # A prepared task is told in its tags which container has claimed it.
  statement {
    sid       = "TagClaimedTasks"
    actions   = ["ecs:TagResource"]
    resources = [local.tasks_arn]

    condition {
      test     = "ForAllValues:StringEquals"
      variable = "aws:TagKeys"
      values   = ["SOCKERLESS_CONTAINER_ID", "SOCKERLESS_GENERATION"]
    }
  }

  statement {
    sid       = "PassRoles"
    actions   = ["iam:PassRole"]
    resources = [aws_iam_role.execution.arn, aws_iam_role.task.arn]

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["ecs-tasks.amazonaws.com"]
    }
  }

  # A user-defined Docker network is a security group. The backend makes them with this tag and changes no others.
  statement {
    sid       = "NewNetworksInVpc"
    actions   = ["ec2:CreateSecurityGroup"]
    resources = [local.vpc_arn]
  }

  statement {
    sid       = "NewNetworks"
    actions   = ["ec2:CreateSecurityGroup"]
    resources = [local.security_groups_arn]

    condition {
      test     = "Null"
      variable = "aws:RequestTag/sockerless-network"
      values   = ["false"]
    }
  }

  statement {
    sid       = "TagNewNetworks"
    actions   = ["ec2:CreateTags"]
    resources = [local.security_groups_arn]

    condition {
      test     = "StringEquals"
      variable = "ec2:CreateAction"
      values   = ["CreateSecurityGroup"]
    }
  }

  statement {
    sid = "Networks"
    actions = [
      "ec2:AuthorizeSecurityGroupEgress",
      "ec2:AuthorizeSecurityGroupIngress",
      "ec2:DeleteSecurityGroup",
      "ec2:RevokeSecurityGroupEgress",
      "ec2:RevokeSecurityGroupIngress",
    ]
    resources = [local.security_groups_arn]

    condition {
      test     = "ArnEquals"
      variable = "ec2:Vpc"
      values   = [local.vpc_arn]
    }

    condition {
      test     = "Null"
      variable = "aws:ResourceTag/sockerless-network"
      values   = ["false"]
    }
  }

  statement {
    sid       = "VolumesInNetworks"
    actions   = ["ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress"]
    resources = [aws_security_group.efs.arn]
  }

  statement {
    sid = "FileSystem"
    actions = [
      "elasticfilesystem:CreateAccessPoint",
      "elasticfilesystem:DescribeAccessPoints",
      "elasticfilesystem:DescribeMountTargets",
    ]
    resources = [aws_efs_file_system.this.arn]
  }

  statement {
    sid       = "TagNewVolumes"
    actions   = ["elasticfilesystem:TagResource"]
    resources = [local.access_points_arn]

    condition {
      test     = "StringEquals"
      variable = "elasticfilesystem:CreateAction"
      values   = ["CreateAccessPoint"]
    }
  }

  statement {
    sid       = "Volumes"
    actions   = ["elasticfilesystem:DeleteAccessPoint", "elasticfilesystem:DescribeAccessPoints"]
    resources = [local.access_points_arn]

    condition {
      test     = "Null"
      variable = "aws:ResourceTag/sockerless-volume"
      values   = ["false"]
    }
  }

  statement {
    sid       = "Logs"
    actions   = ["logs:GetLogEvents"]
    resources = [aws_cloudwatch_log_group.containers.arn, "${aws_cloudwatch_log_group.containers.arn}:*"]
  }

  # A container's name is a service. The backend makes them with this tag and changes no others.
  statement {
    sid       = "NewNames"
    actions   = ["servicediscovery:CreateService"]
    resources = [aws_service_discovery_private_dns_namespace.this.arn, local.services_arn] # their IDs are made by Cloud Map

    condition {
      test     = "Null"
      variable = "aws:RequestTag/sockerless-instance"
      values   = ["false"]
    }
  }

  statement {
    sid       = "TagNewNames"
    actions   = ["servicediscovery:TagResource"]
    resources = ["*"] # AWS has no resource for it: the conditions name the one tag

    condition {
      test     = "Null"
      variable = "aws:RequestTag/sockerless-instance"
      values   = ["false"]
    }

    condition {
      test     = "ForAllValues:StringEquals"
      variable = "aws:TagKeys"
      values   = ["sockerless-instance"]
    }
  }

  statement {
    sid = "Names"
    actions = [
      "servicediscovery:DeleteService",
      "servicediscovery:DeregisterInstance",
      "servicediscovery:ListInstances",
      "servicediscovery:RegisterInstance",
    ]
    resources = [local.services_arn]

    condition {
      test     = "Null"
      variable = "aws:ResourceTag/sockerless-instance"
      values   = ["false"]
    }
  }

  statement {
    sid       = "NamesInDns"
    actions   = ["route53:ChangeResourceRecordSets", "route53:GetHostedZone"] # Cloud Map writes with its caller's rights
    resources = ["arn:${local.partition}:route53:::hostedzone/${aws_service_discovery_private_dns_namespace.this.hosted_zone}"]
  }

  dynamic "statement" {
    for_each = aws_ecr_repository.this[*].arn

    content {
      sid = "Images"
      actions = [
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchDeleteImage",
        "ecr:BatchGetImage",
        "ecr:CompleteLayerUpload",
        "ecr:GetDownloadUrlForLayer",
        "ecr:InitiateLayerUpload",
        "ecr:ListImages",
        "ecr:PutImage",
        "ecr:UploadLayerPart",
      ]
      resources = [statement.value]
    }
  }
}
