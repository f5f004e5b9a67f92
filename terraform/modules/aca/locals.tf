data "azurerm_client_config" "current" {}

locals {
  tags = merge(var.tags, {
    project     = "sockerless"
    environment = var.environment
    component   = "aca"
    managed-by  = "terraform"
  })

  resource_group_name   = var.create_resource_group ? one(azurerm_resource_group.this[*].name) : one(data.azurerm_resource_group.existing[*].name)
  resource_group_id     = var.create_resource_group ? one(azurerm_resource_group.this[*].id) : one(data.azurerm_resource_group.existing[*].id)
  private_dns_zone_name = coalesce(var.private_dns_zone_name, "${var.name}.internal")

  # Names that must be unique in all of Azure, and the same at each plan.
  unique                  = substr(sha256("${data.azurerm_client_config.current.subscription_id}/${coalesce(var.resource_group_name, var.name)}/${var.name}"), 0, 8)
  compact_name            = replace(var.name, "-", "")
  storage_account_name    = coalesce(var.storage_account_name, "${substr(local.compact_name, 0, min(16, length(local.compact_name)))}${local.unique}")
  container_registry_name = coalesce(var.container_registry_name, "${local.compact_name}${local.unique}")

  # Keys and values as the backend's configuration file wants them. The registry needs no password: the identity pulls.
  sockerless_config = {
    backend = "aca"
    aca = {
      for key, value in {
        subscription_id            = data.azurerm_client_config.current.subscription_id
        resource_group             = local.resource_group_name
        managed_environment_name   = azurerm_container_app_environment.this.name
        location                   = azurerm_container_app_environment.this.location
        log_analytics_workspace_id = azurerm_log_analytics_workspace.this.workspace_id
        storage_account_name       = azurerm_storage_account.this.name
        storage_account_key        = azurerm_storage_account.this.primary_access_key
        registry_server            = one(azurerm_container_registry.this[*].login_server)
        registry_id                = one(azurerm_container_registry.this[*].id)
        identity                   = azurerm_user_assigned_identity.this.id
        callback_url               = var.callback_url
      } : key => value if value != null
    }
  }
}
