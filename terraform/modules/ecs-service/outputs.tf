output "service_name" {
  description = "Name of the ECS service."
  value       = aws_ecs_service.this.name
}

output "security_group_id" {
  description = "ID of the service's security group."
  value       = aws_security_group.service.id
}

output "backend_role_arn" {
  description = "ARN of the role that the backend has."
  value       = aws_iam_role.backend.arn
}

output "log_group_name" {
  description = "Name of the service's log group."
  value       = aws_cloudwatch_log_group.service.name
}

output "load_balancer_dns_name" {
  description = "Address of the load balancer; null where there is none."
  value       = one(aws_lb.docker[*].dns_name)
}

output "docker_host" {
  description = "`DOCKER_HOST` of clients behind the load balancer; null where there is none. The address in the VPC is docker.<namespace>."
  value       = one([for name in aws_lb.docker[*].dns_name : "tcp://${name}:${var.docker_port}"])
}
