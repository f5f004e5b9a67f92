resource "azurerm_container_registry" "this" {
  count = var.create_container_registry ? 1 : 0

  admin_enabled          = false # the identity pulls, the backend pushes with its own
  anonymous_pull_enabled = false
  location               = var.location
  name                   = local.container_registry_name
  resource_group_name    = local.resource_group_name
  sku                    = var.container_registry_sku
  tags                   = local.tags
}
