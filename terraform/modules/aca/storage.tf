# Volumes: each Docker volume is a file share of this account, made by the backend.
resource "azurerm_storage_account" "this" {
  account_kind                    = var.storage_account_tier == "Premium" ? "FileStorage" : "StorageV2"
  account_replication_type        = var.storage_replication_type
  account_tier                    = var.storage_account_tier
  allow_nested_items_to_be_public = false
  https_traffic_only_enabled      = !var.nfs_shares # no NFS share of an account that wants HTTPS is mounted
  location                        = var.location
  min_tls_version                 = "TLS1_2"
  name                            = local.storage_account_name
  resource_group_name             = local.resource_group_name
  shared_access_key_enabled       = true # Container Apps mount file shares with the key; no identity can
  tags                            = local.tags

  dynamic "network_rules" {
    for_each = var.storage_allowed_ip_ranges == null && !var.nfs_shares ? [] : [var.storage_allowed_ip_ranges == null ? [] : var.storage_allowed_ip_ranges]

    content {
      bypass                     = ["AzureServices"]
      default_action             = "Deny"
      ip_rules                   = network_rules.value
      virtual_network_subnet_ids = [azurerm_subnet.environment.id]
    }
  }

  lifecycle {
    precondition {
      condition     = var.storage_account_tier == "Standard" || contains(["LRS", "ZRS"], var.storage_replication_type)
      error_message = "Premium file shares are replicated as LRS or ZRS."
    }

    precondition {
      condition     = !var.nfs_shares || var.storage_account_tier == "Premium"
      error_message = "NFS shares need storage_account_tier = \"Premium\"."
    }
  }
}
