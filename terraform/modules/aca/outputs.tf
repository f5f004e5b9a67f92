output "subscription_id" {
  description = "Azure subscription."
  value       = data.azurerm_client_config.current.subscription_id
}

output "resource_group" {
  description = "Name of the resource group."
  value       = local.resource_group_name
}

output "managed_environment_name" {
  description = "Name of the Container Apps environment."
  value       = azurerm_container_app_environment.this.name
}

output "managed_environment_id" {
  description = "Resource ID of the Container Apps environment."
  value       = azurerm_container_app_environment.this.id
}

output "location" {
  description = "Azure region of the environment."
  value       = azurerm_container_app_environment.this.location
}

output "log_analytics_workspace_id" {
  description = "ID of the Log Analytics workspace, as queries want it."
  value       = azurerm_log_analytics_workspace.this.workspace_id
}

output "storage_account_name" {
  description = "Name of the storage account of volumes."
  value       = azurerm_storage_account.this.name
}

output "storage_account_key" {
  description = "Key of the storage account."
  value       = azurerm_storage_account.this.primary_access_key
  sensitive   = true
}

output "registry_id" {
  description = "ID of the container registry; null where none was made."
  value       = one(azurerm_container_registry.this[*].id)
}

output "registry_server" {
  description = "Address of the container registry; null where none was made."
  value       = one(azurerm_container_registry.this[*].login_server)
}

output "identity" {
  description = "Resource ID of the identity that pulls images and that containers get. Known once it may pull."
  value       = azurerm_user_assigned_identity.this.id

  depends_on = [azurerm_role_assignment.pull]
}

output "identity_client_id" {
  description = "Client ID of that identity."
  value       = azurerm_user_assigned_identity.this.client_id
}

output "virtual_network_id" {
  description = "Resource ID of the virtual network."
  value       = azurerm_virtual_network.this.id
}

output "private_dns_zone_name" {
  description = "Name of the private DNS zone."
  value       = azurerm_private_dns_zone.this.name
}

output "sockerless_config" {
  description = "Configuration file of `sockerless serve --config`, in YAML. It holds the storage account's key."
  value       = yamlencode(local.sockerless_config)
  sensitive   = true

  depends_on = [azurerm_role_assignment.pull, azurerm_role_assignment.backend]
}
