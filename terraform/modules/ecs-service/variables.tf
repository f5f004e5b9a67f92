# General

variable "name" {
  description = "Name of the service and the beginning of all other names."
  type        = string
  default     = "sockerless"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,22}[a-z0-9]$", var.name)) && !can(regex("^(sg|internal)-", var.name))
    error_message = "The name must have 2 to 24 lowercase letters, digits and hyphens, begin with a letter (AWS keeps sg- and internal- for itself) and end with a letter or digit."
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
    error_message = "At most 40 tags: AWS allows 50 a resource, standard tags included."
  }
}

# Resources that the module `ecs` made

variable "cluster_arn" {
  description = "ARN of the ECS cluster: output `ecs_cluster_arn`."
  type        = string

  validation {
    condition     = can(regex("^arn:[a-z-]+:ecs:.+:cluster/", var.cluster_arn))
    error_message = "The cluster must be given by its ARN."
  }
}

variable "sockerless_config" {
  description = "Configuration of the backend in YAML: output `sockerless_config`."
  type        = string

  validation {
    condition     = can(yamldecode(var.sockerless_config).ecs.cluster)
    error_message = "The configuration must be YAML with a section `ecs`."
  }
}

variable "backend_policy_json" {
  description = "What the service may do: output `backend_policy_json`."
  type        = string

  validation {
    condition     = can(jsondecode(var.backend_policy_json).Statement)
    error_message = "The policy must be an IAM policy document in JSON."
  }
}

variable "vpc_id" {
  description = "VPC of the service: output `vpc_id`."
  type        = string

  validation {
    condition     = can(regex("^vpc-[0-9a-f]+$", var.vpc_id))
    error_message = "The VPC's ID must look like vpc-0123456789abcdef0."
  }
}

variable "subnet_ids" {
  description = "Subnets of the service and of its load balancer: output `private_subnet_ids`, or `public_subnet_ids` with `assign_public_ip`."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) > 0 && alltrue([for id in var.subnet_ids : can(regex("^subnet-[0-9a-f]+$", id))])
    error_message = "There must be a subnet, and each ID must look like subnet-0123456789abcdef0."
  }
}

variable "assign_public_ip" {
  description = "Whether the service has a public address, which it needs in a public subnet to pull its image and to reach AWS."
  type        = bool
  default     = false
}

variable "task_security_group_id" {
  description = "Security group of containers: output `task_security_group_id`."
  type        = string

  validation {
    condition     = can(regex("^sg-[0-9a-f]+$", var.task_security_group_id))
    error_message = "The security group's ID must look like sg-0123456789abcdef0."
  }
}

variable "cloud_map" {
  description = "Cloud Map namespace in which the service is found as `docker`: output `cloud_map_namespace_id`; null for none."
  type = object({
    namespace_id = string
  })
  default = null

  validation {
    condition     = var.cloud_map == null || can(regex("^ns-[0-9a-z]+$", var.cloud_map.namespace_id))
    error_message = "The namespace's ID must look like ns-0123456789abcdef0."
  }
}

# Image and secrets

variable "image" {
  description = "Image of sockerless, as `scripts/image` builds it, by digest or tag."
  type        = string

  validation {
    condition     = length(trimspace(var.image)) > 0
    error_message = "The image must not be empty."
  }
}

variable "image_repository_arn" {
  description = "ARN of the ECR repository that `image` comes from; null for a registry that needs no login."
  type        = string
  default     = null

  validation {
    condition     = var.image_repository_arn == null || can(regex("^arn:[a-z-]+:ecr:.+:repository/", var.image_repository_arn))
    error_message = "The repository must be given by its ARN."
  }
}

variable "agent_ca_secret_arn" {
  description = "Secret with the agents' certificate authority, key and certificate in PEM. It outlives the service: with it a lost state is rebuilt."
  type        = string

  validation {
    condition     = can(regex("^arn:[a-z-]+:secretsmanager:", var.agent_ca_secret_arn))
    error_message = "The secret must be given by its ARN."
  }
}

variable "tls_secret_arns" {
  description = "Secrets with PEM files for mutual TLS on the Docker port: `ca` signs the clients' certificates, `cert` and `key` are the service's own."
  type = object({
    ca   = string
    cert = string
    key  = string
  })

  validation {
    condition     = alltrue([for arn in values(var.tls_secret_arns) : can(regex("^arn:[a-z-]+:secretsmanager:", arn))])
    error_message = "Each secret must be given by its ARN."
  }
}

variable "secrets_kms_key_arn" {
  description = "KMS key of the secrets, where it is not the account's key `aws/secretsmanager`."
  type        = string
  default     = null

  validation {
    condition     = var.secrets_kms_key_arn == null || can(regex("^arn:[a-z-]+:kms:", var.secrets_kms_key_arn))
    error_message = "The key must be given by its ARN."
  }
}

# Size

variable "cpu" {
  description = "CPU units of the service; 1024 are one processor."
  type        = number
  default     = 512

  validation {
    condition     = contains([256, 512, 1024, 2048, 4096], var.cpu)
    error_message = "Fargate has 256, 512, 1024, 2048 or 4096 CPU units for this service."
  }
}

variable "memory" {
  description = "Memory of the service in MiB; Fargate has 2 to 8 GiB for each processor: with 256 CPU units, set 2048 at most. With less than the default, clients whose archives and registries demand all that they may have can end the service."
  type        = number
  default     = 4096

  validation {
    condition     = var.memory >= 512 && var.memory <= 30720 && var.memory % 512 == 0
    error_message = "The memory must be 512 to 30720 MiB, in multiples of 512."
  }
}

variable "architecture" {
  description = "Processor that the image is built for."
  type        = string
  default     = "amd64"

  validation {
    condition     = contains(["amd64", "arm64"], var.architecture)
    error_message = "The architecture is amd64 or arm64."
  }
}

# State

variable "state_efs" {
  description = "Where on EFS the state is, with the security group of the mount targets: output `state_efs`. The access point belongs to this service alone, and to the user 10001. Without it the state is the task's own and is rebuilt from the containers that run; stopped containers and the logs of ended ones are then lost with the task."
  type = object({
    access_point_arn  = string
    filesystem_id     = string
    security_group_id = string
  })
  default = null

  validation {
    condition     = var.state_efs == null || can(regex("^arn:[a-z-]+:elasticfilesystem:.+:access-point/fsap-[0-9a-f]+$", var.state_efs.access_point_arn))
    error_message = "The access point must be given by its ARN."
  }

  validation {
    condition     = var.state_efs == null || (can(regex("^fs-[0-9a-f]+$", var.state_efs.filesystem_id)) && can(regex("^sg-[0-9a-f]+$", var.state_efs.security_group_id)))
    error_message = "The IDs must look like fs-0123456789abcdef0 and sg-0123456789abcdef0."
  }
}

# Clients

variable "docker_port" {
  description = "Port of the Docker API; it demands mutual TLS."
  type        = number
  default     = 2376

  validation {
    condition     = var.docker_port >= 1 && var.docker_port <= 65535 && floor(var.docker_port) == var.docker_port
    error_message = "A port is a whole number from 1 to 65535."
  }
}

variable "client_cidrs" {
  description = "Networks that may reach the Docker port and the published ports."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.client_cidrs : can(cidrnetmask(cidr))])
    error_message = "Each network must be an IPv4 network, as in 10.0.0.0/16."
  }
}

variable "published_ports" {
  description = "Ranges of TCP ports that containers may publish; clients reach them on the service's address. Without a load balancer only."
  type = list(object({
    from = number
    to   = number
  }))
  default = []

  validation {
    condition     = alltrue([for range in var.published_ports : range.from >= 1 && range.to <= 65535 && range.from <= range.to])
    error_message = "Ports are from 1 to 65535, and a range begins with its lower one."
  }
}

variable "enable_load_balancer" {
  description = "Whether a network load balancer gives the Docker port an address that stays. TLS ends at the service, not at the load balancer."
  type        = bool
  default     = false
}

variable "load_balancer_internal" {
  description = "Whether the load balancer has private addresses only."
  type        = bool
  default     = true
}

variable "load_balancer_subnet_ids" {
  description = "Subnets of the load balancer, public ones where it is not internal; empty for those of the service."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for id in var.load_balancer_subnet_ids : can(regex("^subnet-[0-9a-f]+$", id))])
    error_message = "Each subnet's ID must look like subnet-0123456789abcdef0."
  }
}

# Logs and roles

variable "log_level" {
  description = "The least important messages of the service that are logged."
  type        = string
  default     = "info"

  validation {
    condition     = contains(["trace", "debug", "info", "warn", "error", "fatal", "silent"], var.log_level)
    error_message = "The level is trace, debug, info, warn, error, fatal or silent."
  }
}

variable "log_retention_days" {
  description = "How many days CloudWatch keeps the service's own log."
  type        = number
  default     = 30

  validation {
    condition = contains([
      1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
    ], var.log_retention_days)
    error_message = "CloudWatch keeps logs for 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653 days."
  }
}

variable "iam_permissions_boundary_arn" {
  description = "Policy that bounds the roles of this module, where the organisation asks for one."
  type        = string
  default     = null

  validation {
    condition     = var.iam_permissions_boundary_arn == null || can(regex("^arn:[a-z-]+:iam:", var.iam_permissions_boundary_arn))
    error_message = "The permissions boundary must be given by its ARN."
  }
}
