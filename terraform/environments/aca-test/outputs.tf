output "sockerless_config" {
  description = "Configuration file of `sockerless serve --config`; it holds the storage account's key."
  value       = module.aca.sockerless_config
  sensitive   = true
}
