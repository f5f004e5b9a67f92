# General

variable "name" {
  description = "Name of this instance and the beginning of all other names. A second instance in the same subscription needs another name."
  type        = string
  default     = "sockerless"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,22}[a-z0-9]$", var.name))
    error_message = "The name must have 2 to 24 lowercase letters, digits and hyphens, and begin with a letter and end with a letter or digit."
  }
}

variable "environment" {
  description = "Value of the tag `environment`."
  type        = string
  default     = "test"

  validation {
    condition     = length(trimspace(var.environment)) > 0
    error_message = "The environment must not be empty."
  }
}

variable "tags" {
  description = "Further tags of all resources; the standard tags win over them."
  type        = map(string)
  default     = {}

  validation {
    condition     = length(var.tags) <= 40
    error_message = "At most 40 tags: Azure allows 50 a resource, standard tags included."
  }
}

variable "location" {
  description = "Azure region, for example `westeurope`; of an existing resource group it may differ."
  type        = string
  default     = "westeurope"

  validation {
    condition     = can(regex("^[a-z0-9]+$", var.location))
    error_message = "The location must be written as in westeurope."
  }
}

variable "create_resource_group" {
  description = "Whether the module makes a resource group. If not, `resource_group_name` names an existing one."
  type        = bool
  default     = true
}

variable "resource_group_name" {
  description = "Name of the resource group; null for `<name>`."
  type        = string
  default     = null

  validation {
    condition     = var.resource_group_name == null || can(regex("^[A-Za-z0-9_().-]{0,89}[A-Za-z0-9_()-]$", var.resource_group_name))
    error_message = "A resource group's name has 1 to 90 letters, digits and characters of _ ( ) . - and no dot at its end."
  }
}

# Network

variable "vnet_cidr" {
  description = "Addresses of the virtual network."
  type        = string
  default     = "10.0.0.0/16"

  validation {
    condition     = can(cidrnetmask(var.vnet_cidr))
    error_message = "The virtual network must be an IPv4 network, as in 10.0.0.0/16."
  }
}

variable "environment_subnet_cidr" {
  description = "Addresses of the environment's subnet, a /27 or larger within the virtual network."
  type        = string
  default     = "10.0.0.0/23"

  validation {
    condition     = can(cidrnetmask(var.environment_subnet_cidr)) && can(regex("/([0-9]|1[0-9]|2[0-7])$", var.environment_subnet_cidr))
    error_message = "The subnet must be an IPv4 network of /27 or larger, as in 10.0.0.0/23."
  }
}

variable "internal_load_balancer" {
  description = "Whether the environment has private addresses only. Jobs have no ingress in either case."
  type        = bool
  default     = true
}

variable "private_dns_zone_name" {
  description = "Private DNS zone that is linked to the virtual network; null for `<name>.internal`."
  type        = string
  default     = null

  validation {
    condition     = var.private_dns_zone_name == null || can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.private_dns_zone_name))
    error_message = "The zone must be a domain of at least two lowercase labels, as in sockerless.internal."
  }
}

# Logs

variable "log_retention_days" {
  description = "How many days Log Analytics keeps the logs."
  type        = number
  default     = 30

  validation {
    condition     = var.log_retention_days >= 30 && var.log_retention_days <= 730 && floor(var.log_retention_days) == var.log_retention_days
    error_message = "Log Analytics keeps logs for 30 to 730 days."
  }
}

variable "log_daily_quota_gb" {
  description = "The most that Log Analytics takes in a day, in GB; -1 for no limit. What comes after it is lost."
  type        = number
  default     = -1

  validation {
    condition     = var.log_daily_quota_gb == -1 || var.log_daily_quota_gb > 0
    error_message = "The quota must be positive, or -1 for none."
  }
}

# Volumes and images

variable "storage_account_name" {
  description = "Name of the storage account, unique in all of Azure; null for a name made of `name`, subscription and resource group."
  type        = string
  default     = null

  validation {
    condition     = var.storage_account_name == null || can(regex("^[a-z0-9]{3,24}$", var.storage_account_name))
    error_message = "A storage account's name has 3 to 24 lowercase letters and digits."
  }
}

variable "storage_account_tier" {
  description = "`Standard`, or `Premium` for faster file shares."
  type        = string
  default     = "Standard"

  validation {
    condition     = contains(["Standard", "Premium"], var.storage_account_tier)
    error_message = "The tier is Standard or Premium."
  }
}

variable "storage_replication_type" {
  description = "How the storage account keeps copies."
  type        = string
  default     = "LRS"

  validation {
    condition     = contains(["LRS", "ZRS", "GRS", "GZRS"], var.storage_replication_type)
    error_message = "The replication is LRS, ZRS, GRS or GZRS."
  }
}

variable "storage_allowed_ip_ranges" {
  description = "Public addresses and networks that may reach the storage account, beside the environment's subnet; null for everyone who has its key."
  type        = list(string)
  default     = null

  validation {
    condition     = var.storage_allowed_ip_ranges == null || try(alltrue([for range in var.storage_allowed_ip_ranges : can(cidrnetmask(strcontains(range, "/") ? range : "${range}/32"))]), false)
    error_message = "Each range must be an IPv4 address or network."
  }
}

variable "nfs_shares" {
  description = "Whether the storage account takes NFS shares (`docker volume create --opt nfs=true`). It is reached from the environment's subnet and `storage_allowed_ip_ranges` alone then, and without TLS."
  type        = bool
  default     = false
}

variable "create_container_registry" {
  description = "Whether a container registry is made, for images that are loaded, imported or committed."
  type        = bool
  default     = true
}

variable "container_registry_name" {
  description = "Name of the container registry, unique in all of Azure; null for a name made of `name`, subscription and resource group."
  type        = string
  default     = null

  validation {
    condition     = var.container_registry_name == null || can(regex("^[A-Za-z0-9]{5,50}$", var.container_registry_name))
    error_message = "A registry's name has 5 to 50 letters and digits."
  }
}

variable "container_registry_sku" {
  description = "Size of the registry."
  type        = string
  default     = "Basic"

  validation {
    condition     = contains(["Basic", "Standard", "Premium"], var.container_registry_sku)
    error_message = "The size is Basic, Standard or Premium."
  }
}

# Backend

variable "backend_principals" {
  description = "Object IDs of the identities that may run the backend, by names of your choice: they get the roles that the backend needs, on these resources only."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for id in values(var.backend_principals) : can(regex("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", id))])
    error_message = "Each principal must be given by its object ID, a UUID."
  }
}

variable "callback_url" {
  description = "Address at which containers reach the backend (`aca.callback_url`); null to give it elsewhere."
  type        = string
  default     = null

  validation {
    condition     = var.callback_url == null || can(regex("^(https|wss)://[^[:space:]]+$", var.callback_url))
    error_message = "The callback address must begin with https:// or wss://."
  }
}
