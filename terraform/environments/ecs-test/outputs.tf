output "sockerless_config" {
  description = "Configuration file of `sockerless serve --config`."
  value       = module.ecs.sockerless_config
}

output "backend_policy_json" {
  description = "IAM policy for whoever runs the backend outside of this environment."
  value       = module.ecs.backend_policy_json
}

output "ecr_repository_url" {
  description = "Repository of the agent's image and of sockerless' own."
  value       = module.ecs.ecr_repository_url
}
