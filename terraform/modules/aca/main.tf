# The infrastructure that the ACA backend of sockerless expects, in one resource group.
#
# Purpose: a Container Apps environment in a network of its own whose jobs are the containers, a storage account for
# volumes, a container registry, the identity of containers, logs, and a private DNS zone.
#
# Usage:
#
#   module "aca" {
#     source   = "./modules/aca"
#     location = "westeurope"
#
#     backend_principals = { me = "00000000-0000-0000-0000-000000000000" } # who runs the backend
#   }
#
#   output "sockerless_config" {
#     value     = module.aca.sockerless_config # sockerless serve --config <file with this>
#     sensitive = true
#   }
#
# Prerequisites: a configured provider hashicorp/azurerm 4.17 or newer; the resource providers Microsoft.App and
# Microsoft.OperationalInsights registered in the subscription; the right to assign roles (Owner, or Role Based Access
# Control Administrator).

resource "azurerm_resource_group" "this" {
  count = var.create_resource_group ? 1 : 0

  location = var.location
  name     = coalesce(var.resource_group_name, var.name)
  tags     = local.tags
}

data "azurerm_resource_group" "existing" {
  count = var.create_resource_group ? 0 : 1

  name = var.resource_group_name

  lifecycle {
    precondition {
      condition     = var.resource_group_name != null
      error_message = "Without create_resource_group, resource_group_name must name an existing one."
    }
  }
}

# Network

resource "azurerm_virtual_network" "this" {
  address_space       = [var.vnet_cidr]
  location            = var.location
  name                = var.name
  resource_group_name = local.resource_group_name
  tags                = local.tags
}

resource "azurerm_subnet" "environment" {
  address_prefixes     = [var.environment_subnet_cidr]
  name                 = "environment"
  resource_group_name  = local.resource_group_name
  service_endpoints    = ["Microsoft.Storage"]
  virtual_network_name = azurerm_virtual_network.this.name

  delegation {
    name = "container-apps"

    service_delegation {
      actions = ["Microsoft.Network/virtualNetworks/subnets/join/action"]
      name    = "Microsoft.App/environments"
    }
  }

  lifecycle {
    precondition {
      condition = (
        tonumber(split("/", var.environment_subnet_cidr)[1]) >= tonumber(split("/", var.vnet_cidr)[1])
        && cidrhost("${cidrhost(var.environment_subnet_cidr, 0)}/${split("/", var.vnet_cidr)[1]}", 0) == cidrhost(var.vnet_cidr, 0)
      )
      error_message = "environment_subnet_cidr must lie within vnet_cidr."
    }
  }
}

resource "azurerm_private_dns_zone" "this" {
  name                = local.private_dns_zone_name
  resource_group_name = local.resource_group_name
  tags                = local.tags
}

resource "azurerm_private_dns_zone_virtual_network_link" "this" {
  name                  = var.name
  private_dns_zone_name = azurerm_private_dns_zone.this.name
  registration_enabled  = false # containers have no addresses of their own in the network
  resource_group_name   = local.resource_group_name
  tags                  = local.tags
  virtual_network_id    = azurerm_virtual_network.this.id
}

# Environment

resource "azurerm_log_analytics_workspace" "this" {
  daily_quota_gb      = var.log_daily_quota_gb
  location            = var.location
  name                = "${var.name}-logs"
  resource_group_name = local.resource_group_name
  retention_in_days   = var.log_retention_days
  sku                 = "PerGB2018"
  tags                = local.tags
}

resource "azurerm_container_app_environment" "this" {
  infrastructure_subnet_id       = azurerm_subnet.environment.id
  internal_load_balancer_enabled = var.internal_load_balancer
  location                       = var.location
  log_analytics_workspace_id     = azurerm_log_analytics_workspace.this.id
  logs_destination               = "log-analytics"
  name                           = var.name
  resource_group_name            = local.resource_group_name
  tags                           = local.tags

  # Jobs of this profile have up to 4 processors and 8 GiB.
  workload_profile {
    name                  = "Consumption"
    workload_profile_type = "Consumption"
  }

  lifecycle {
    # Azure chooses this name unless it is given, and a change would replace the environment.
    ignore_changes = [infrastructure_resource_group_name]
  }
}
