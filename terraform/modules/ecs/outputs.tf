output "region" {
  description = "Region of everything here."
  value       = local.region
}

output "vpc_id" {
  description = "ID of the VPC."
  value       = local.vpc_id
}

output "private_subnet_ids" {
  description = "IDs of the private subnets, in the order of the zones."
  value       = local.private_subnet_ids
}

output "public_subnet_ids" {
  description = "IDs of the public subnets, in the order of the zones."
  value       = local.public_subnet_ids
}

output "ecs_cluster_arn" {
  description = "ARN of the ECS cluster."
  value       = aws_ecs_cluster.this.arn
}

output "ecs_cluster_name" {
  description = "Name of the ECS cluster, the backend's `ecs.cluster`."
  value       = aws_ecs_cluster.this.name
}

output "efs_filesystem_id" {
  description = "ID of the EFS file system of volumes. Known once it can be mounted."
  value       = aws_efs_file_system.this.id

  depends_on = [aws_efs_mount_target.this, aws_efs_file_system_policy.this]
}

output "efs_filesystem_arn" {
  description = "ARN of the EFS file system of volumes."
  value       = aws_efs_file_system.this.arn
}

output "state_efs" {
  description = "By the names in `state_services`: what the module `ecs-service` of that name takes as `state_efs`. Known once it is closed to others."
  value = {
    for service, access_point in aws_efs_access_point.state : service => {
      access_point_arn  = access_point.arn
      filesystem_id     = aws_efs_file_system.this.id
      security_group_id = aws_security_group.efs.id
    }
  }

  depends_on = [aws_efs_mount_target.this, aws_efs_file_system_policy.this]
}

output "log_group_name" {
  description = "Name of the containers' log group."
  value       = aws_cloudwatch_log_group.containers.name
}

output "log_group_arn" {
  description = "ARN of the containers' log group."
  value       = aws_cloudwatch_log_group.containers.arn
}

output "cloud_map_namespace_id" {
  description = "ID of the Cloud Map namespace."
  value       = aws_service_discovery_private_dns_namespace.this.id
}

output "cloud_map_namespace_arn" {
  description = "ARN of the Cloud Map namespace."
  value       = aws_service_discovery_private_dns_namespace.this.arn
}

output "cloud_map_namespace_name" {
  description = "Domain of the Cloud Map namespace."
  value       = aws_service_discovery_private_dns_namespace.this.name
}

output "execution_role_arn" {
  description = "ARN of the role with which ECS pulls images and writes logs. Known once it has its rights."
  value       = aws_iam_role.execution.arn

  depends_on = [aws_iam_role_policy.execution, aws_iam_role_policy_attachment.execution]
}

output "task_role_arn" {
  description = "ARN of the role that containers get. Known once it has its rights."
  value       = aws_iam_role.task.arn

  depends_on = [aws_iam_role_policy.task]
}

output "task_security_group_id" {
  description = "ID of the security group of tasks in the default network."
  value       = aws_security_group.task.id
}

output "efs_security_group_id" {
  description = "ID of the security group of the EFS mount targets."
  value       = aws_security_group.efs.id
}

output "ecr_repository_url" {
  description = "URL of the ECR repository; null where none was made."
  value       = one(aws_ecr_repository.this[*].repository_url)
}

output "ecr_repository_arn" {
  description = "ARN of the ECR repository; null where none was made."
  value       = one(aws_ecr_repository.this[*].arn)
}

output "backend_policy_json" {
  description = "IAM policy of the backend, for the role or user that runs it."
  value       = data.aws_iam_policy_document.backend.minified_json
}

output "sockerless_config" {
  description = "Configuration file of `sockerless serve --config`, in YAML."
  value       = yamlencode(local.sockerless_config)

  depends_on = [
    aws_ecs_cluster_capacity_providers.this,
    aws_efs_file_system_policy.this,
    aws_efs_mount_target.this,
    aws_iam_role_policy.execution,
    aws_iam_role_policy.task,
    aws_iam_role_policy_attachment.execution,
    aws_route.internet,
    aws_route.nat,
  ]
}
