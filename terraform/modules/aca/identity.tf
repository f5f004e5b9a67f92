# The identity of containers: it pulls their images, and has no other right.
resource "azurerm_user_assigned_identity" "this" {
  location            = var.location
  name                = "${var.name}-containers"
  resource_group_name = local.resource_group_name
  tags                = local.tags
}

resource "azurerm_role_assignment" "pull" {
  count = var.create_container_registry ? 1 : 0

  principal_id         = azurerm_user_assigned_identity.this.principal_id
  principal_type       = "ServicePrincipal"
  role_definition_name = "AcrPull"
  scope                = azurerm_container_registry.this[count.index].id
}

# The backend: each role on the one resource that it is for. Jobs have no scope narrower than the resource group.

locals {
  backend_roles = merge(
    {
      "jobs"        = { role = "Container Apps Jobs Contributor", scope = local.resource_group_id }
      "environment" = { role = "Container Apps ManagedEnvironments Contributor", scope = azurerm_container_app_environment.this.id }
      "identity"    = { role = "Managed Identity Operator", scope = azurerm_user_assigned_identity.this.id }
      "logs"        = { role = "Log Analytics Reader", scope = azurerm_log_analytics_workspace.this.id }
      "volumes"     = { role = "Storage Account Contributor", scope = azurerm_storage_account.this.id }
    },
    # Images of other users than root are fetched by the registry itself, and what is made of them goes with them.
    [for id in azurerm_container_registry.this[*].id : {
      "images"   = { role = "AcrPush", scope = id }
      "imports"  = { role = "Container Registry Data Importer and Data Reader", scope = id }
      "removals" = { role = "AcrDelete", scope = id }
    }]...
  )
}

resource "azurerm_role_assignment" "backend" {
  for_each = {
    for pair in setproduct(keys(var.backend_principals), keys(local.backend_roles)) : "${pair[0]}/${pair[1]}" => {
      principal = var.backend_principals[pair[0]]
      role      = local.backend_roles[pair[1]].role
      scope     = local.backend_roles[pair[1]].scope
    }
  }

  principal_id         = each.value.principal
  role_definition_name = each.value.role
  scope                = each.value.scope
}
