variable "region" {
  description = "AWS region."
  type        = string
  default     = "us-east-1"

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "The region must look like us-east-1."
  }
}

variable "name" {
  description = "Name of the instance."
  type        = string
  default     = "sockerless-test"
}

variable "image" {
  description = "Image of sockerless, to run it as a service here; null to run it elsewhere."
  type        = string
  default     = null
}

variable "agent_ca_secret_arn" {
  description = "Secret with the agents' certificate authority; needed with `image`."
  type        = string
  default     = null
}

variable "tls_secret_arns" {
  description = "Secrets with the PEM files `ca`, `cert` and `key` of the Docker port; needed with `image`."
  type = object({
    ca   = string
    cert = string
    key  = string
  })
  default = null
}

variable "client_cidrs" {
  description = "Networks that may reach the Docker port of the service."
  type        = list(string)
  default     = ["10.0.0.0/16"]
}

variable "agent_ingress_cidrs" {
  description = "Networks in which frontends and backends run, where that is not this VPC: they may reach the agents' port 9111."
  type        = list(string)
  default     = []
}

variable "agent_ingress_security_group_ids" {
  description = "Security groups of frontends and backends: they may reach the agents' port 9111."
  type        = list(string)
  default     = []
}
