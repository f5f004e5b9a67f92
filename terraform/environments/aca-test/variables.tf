variable "subscription_id" {
  description = "Azure subscription."
  type        = string

  validation {
    condition     = can(regex("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", var.subscription_id))
    error_message = "The subscription must be given by its ID, a UUID."
  }
}

variable "location" {
  description = "Azure region."
  type        = string
  default     = "westeurope"
}

variable "name" {
  description = "Name of the instance."
  type        = string
  default     = "sockerless-test"
}

variable "backend_principals" {
  description = "Object IDs of the identities that may run the backend, by names of your choice; `az ad signed-in-user show --query id` for your own."
  type        = map(string)
  default     = {}
}

variable "callback_url" {
  description = "Address at which containers reach the backend."
  type        = string
  default     = null
}
