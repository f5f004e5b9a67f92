# General

variable "name" {
  description = "Name of this instance: its ECS cluster, its ECR repository and the beginning of all other names. A second instance in the same account and region needs another name."
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
    error_message = "At most 40 tags: AWS allows 50 a resource, standard tags and those of the backend included."
  }
}

# Network

variable "create_vpc" {
  description = "Whether the module makes a VPC with subnets and gateways. If not, `vpc_id` and `private_subnet_ids` name an existing one."
  type        = bool
  default     = true
}

variable "vpc_cidr" {
  description = "Addresses of the VPC. Each task takes one of a private subnet's; of a /16 every zone gets a /20 (4,091 tasks)."
  type        = string
  default     = "10.0.0.0/16"

  validation {
    condition     = can(cidrnetmask(var.vpc_cidr)) && can(regex("/(1[6-9]|2[0-8])$", var.vpc_cidr))
    error_message = "The VPC's CIDR must be an IPv4 network between /16 and /28, as in 10.0.0.0/16."
  }
}

variable "availability_zone_count" {
  description = "In how many availability zones subnets are made, when `availability_zones` does not name them."
  type        = number
  default     = 2

  validation {
    condition     = var.availability_zone_count >= 1 && floor(var.availability_zone_count) == var.availability_zone_count
    error_message = "There must be at least one availability zone."
  }
}

variable "availability_zones" {
  description = "Names of the availability zones; empty for the first `availability_zone_count` of the region."
  type        = list(string)
  default     = []

  validation {
    condition     = length(distinct(var.availability_zones)) == length(var.availability_zones) && alltrue([for zone in var.availability_zones : length(trimspace(zone)) > 0])
    error_message = "The availability zones must be named, and each only once."
  }
}

variable "private_subnet_cidrs" {
  description = "Addresses of the private subnets, one a zone; empty for sixteenths of the VPC's, counted from its beginning."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.private_subnet_cidrs : can(cidrnetmask(cidr))])
    error_message = "Each private subnet must be an IPv4 network, as in 10.0.0.0/20."
  }
}

variable "public_subnet_cidrs" {
  description = "Addresses of the public subnets, one a zone; empty for 256ths of the VPC's, taken from its last sixteenth."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.public_subnet_cidrs : can(cidrnetmask(cidr))])
    error_message = "Each public subnet must be an IPv4 network, as in 10.0.240.0/24."
  }
}

variable "nat_gateway_count" {
  description = "NAT gateways: 1 saves money, one for each zone survives the loss of a zone, 0 needs VPC endpoints or tasks in the public subnets."
  type        = number
  default     = 1

  validation {
    condition     = var.nat_gateway_count >= 0 && floor(var.nat_gateway_count) == var.nat_gateway_count
    error_message = "The number of NAT gateways must be zero or a positive whole number."
  }
}

variable "vpc_id" {
  description = "ID of an existing VPC with DNS support and DNS host names, when `create_vpc` is false."
  type        = string
  default     = null

  validation {
    condition     = var.vpc_id == null || can(regex("^vpc-[0-9a-f]+$", var.vpc_id))
    error_message = "The VPC's ID must look like vpc-0123456789abcdef0."
  }
}

variable "private_subnet_ids" {
  description = "Private subnets of the existing VPC, at most one in each zone (EFS allows one mount target a zone)."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for id in var.private_subnet_ids : can(regex("^subnet-[0-9a-f]+$", id))])
    error_message = "Each subnet's ID must look like subnet-0123456789abcdef0."
  }
}

variable "public_subnet_ids" {
  description = "Public subnets of the existing VPC; needed only for tasks in public subnets and for load balancers."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for id in var.public_subnet_ids : can(regex("^subnet-[0-9a-f]+$", id))])
    error_message = "Each subnet's ID must look like subnet-0123456789abcdef0."
  }
}

variable "private_route_table_ids" {
  description = "Route tables of the existing VPC's private subnets, which get the endpoint of S3 when `enable_vpc_endpoints` is true."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for id in var.private_route_table_ids : can(regex("^rtb-[0-9a-f]+$", id))])
    error_message = "Each route table's ID must look like rtb-0123456789abcdef0."
  }
}

variable "task_subnets" {
  description = "Where tasks run: in the `private` subnets or, with a public address each, in the `public` ones. In both, nothing from outside reaches them."
  type        = string
  default     = "private"

  validation {
    condition     = contains(["private", "public"], var.task_subnets)
    error_message = "Tasks run in the private or in the public subnets."
  }
}

variable "enable_vpc_endpoints" {
  description = "Whether tasks reach AWS services through endpoints in the VPC, not through the internet."
  type        = bool
  default     = false
}

variable "vpc_endpoint_services" {
  description = "AWS services with an interface endpoint, beside the free gateway endpoint of S3. These are what tasks need; a backend in the same closed network also needs ec2, ecs, elasticfilesystem, servicediscovery and sts."
  type        = list(string)
  default     = ["ecr.api", "ecr.dkr", "logs", "secretsmanager"]

  validation {
    condition     = alltrue([for service in var.vpc_endpoint_services : can(regex("^[a-z0-9.-]+$", service))])
    error_message = "Services are named as in com.amazonaws.<region>.<service>."
  }
}

variable "agent_ingress_cidrs" {
  description = "Networks in which frontends and backends run: they may reach the agents' port 9111. Without networks and security groups it is the VPC's own."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.agent_ingress_cidrs : can(cidrnetmask(cidr))])
    error_message = "Each network must be an IPv4 network, as in 10.0.0.0/16."
  }
}

variable "agent_ingress_security_group_ids" {
  description = "Security groups of frontends and backends: they may reach the agents' port 9111."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for id in var.agent_ingress_security_group_ids : can(regex("^sg-[0-9a-f]+$", id))])
    error_message = "Each security group's ID must look like sg-0123456789abcdef0."
  }
}

variable "callback_url" {
  description = "Address at which the agents call the backend, for tasks that let nobody in; null: frontends and the backend dial the agents. With it there is no rule for port 9111."
  type        = string
  default     = null

  validation {
    condition     = var.callback_url == null || can(regex("^(https|wss)://[^\\s]+$", var.callback_url))
    error_message = "The callback URL must look like wss://sockerless.example.com:8443."
  }
}

variable "callback_listen" {
  description = "Where the backend waits for agents that call; null: all addresses, at the port of `callback_url`."
  type        = string
  default     = null

  validation {
    condition     = var.callback_listen == null || can(regex("^tcp://(\\[[0-9a-fA-F:.]+\\]|[^\\s/:]*):[0-9]{1,5}$", var.callback_listen))
    error_message = "The address must look like tcp://[::]:8443."
  }
}

# Cluster

variable "enable_container_insights" {
  description = "Whether CloudWatch collects metrics of each task (Container Insights)."
  type        = bool
  default     = true
}

variable "capacity_provider" {
  description = "Where tasks run unless they say otherwise: `FARGATE`, or `FARGATE_SPOT`, which is cheaper and may be interrupted. The cluster has both."
  type        = string
  default     = "FARGATE"

  validation {
    condition     = contains(["FARGATE", "FARGATE_SPOT"], var.capacity_provider)
    error_message = "The capacity provider is FARGATE or FARGATE_SPOT."
  }
}

# Volumes

variable "efs_performance_mode" {
  description = "EFS performance mode. It cannot be changed later without losing the data."
  type        = string
  default     = "generalPurpose"

  validation {
    condition     = contains(["generalPurpose", "maxIO"], var.efs_performance_mode)
    error_message = "The performance mode is generalPurpose or maxIO."
  }
}

variable "efs_throughput_mode" {
  description = "EFS throughput mode: `bursting` grows with the data, `elastic` is paid by the byte, `provisioned` is a fixed rate."
  type        = string
  default     = "bursting"

  validation {
    condition     = contains(["bursting", "elastic", "provisioned"], var.efs_throughput_mode)
    error_message = "The throughput mode is bursting, elastic or provisioned."
  }
}

variable "efs_provisioned_throughput_mibps" {
  description = "Throughput in MiB/s, for the throughput mode `provisioned` only."
  type        = number
  default     = null

  validation {
    condition     = var.efs_provisioned_throughput_mibps == null || try(var.efs_provisioned_throughput_mibps >= 1 && var.efs_provisioned_throughput_mibps <= 3414, false)
    error_message = "The provisioned throughput is 1 to 3414 MiB/s."
  }
}

variable "efs_encrypted" {
  description = "Whether EFS encrypts what it stores."
  type        = bool
  default     = true
}

variable "efs_kms_key_arn" {
  description = "KMS key that EFS encrypts with; without it the account's key `aws/elasticfilesystem`."
  type        = string
  default     = null

  validation {
    condition     = var.efs_kms_key_arn == null || can(regex("^arn:[a-z-]+:kms:", var.efs_kms_key_arn))
    error_message = "The key must be given by its ARN."
  }
}

variable "efs_transition_to_ia" {
  description = "After how long unused files go to the cheaper storage class, for example `AFTER_30_DAYS`; null for never."
  type        = string
  default     = null

  validation {
    condition = var.efs_transition_to_ia == null || try(contains([
      "AFTER_1_DAY", "AFTER_7_DAYS", "AFTER_14_DAYS", "AFTER_30_DAYS", "AFTER_60_DAYS", "AFTER_90_DAYS", "AFTER_180_DAYS", "AFTER_270_DAYS", "AFTER_365_DAYS",
    ], var.efs_transition_to_ia), false)
    error_message = "The transition is AFTER_1_DAY, or AFTER_n_DAYS with 7, 14, 30, 60, 90, 180, 270 or 365."
  }
}

variable "efs_administrator_role_arns" {
  description = "Roles that may mount the whole file system, without an access point; they need rights of their own as well."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.efs_administrator_role_arns : can(regex("^arn:[a-z-]+:iam::[0-9]{12}:role/[^*?]+$", arn))])
    error_message = "Each role must be given by its ARN, without wildcards."
  }
}

variable "state_services" {
  description = "Names of the modules `ecs-service` whose state is on the file system: output `state_efs`. Nobody but the role of such a service mounts its state."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for name in var.state_services : can(regex("^[a-z][a-z0-9-]{0,22}[a-z0-9]$", name))]) && length(distinct(var.state_services)) == length(var.state_services)
    error_message = "The names must be those of modules `ecs-service`, each once."
  }
}

# Logs

variable "log_group_name" {
  description = "CloudWatch log group of containers; null for `/<name>/containers`, so `/sockerless/containers`."
  type        = string
  default     = null

  validation {
    condition     = var.log_group_name == null || can(regex("^[A-Za-z0-9_./#-]{1,512}$", var.log_group_name))
    error_message = "A log group's name has 1 to 512 letters, digits and characters of _ . / # -."
  }
}

variable "log_retention_days" {
  description = "How many days CloudWatch keeps the logs."
  type        = number
  default     = 30

  validation {
    condition = contains([
      1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
    ], var.log_retention_days)
    error_message = "CloudWatch keeps logs for 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653 days."
  }
}

variable "secrets_kms_key_arn" {
  description = "KMS key of the registries' secrets, where it is not the account's key `aws/secretsmanager`: the execution role may decrypt with it."
  type        = string
  default     = null

  validation {
    condition     = var.secrets_kms_key_arn == null || can(regex("^arn:[a-z-]+:kms:", var.secrets_kms_key_arn))
    error_message = "The key must be given by its ARN."
  }
}

variable "log_kms_key_arn" {
  description = "KMS key that CloudWatch encrypts the logs with, in addition to its own encryption; the key's policy must let CloudWatch use it."
  type        = string
  default     = null

  validation {
    condition     = var.log_kms_key_arn == null || can(regex("^arn:[a-z-]+:kms:", var.log_kms_key_arn))
    error_message = "The key must be given by its ARN."
  }
}

# Names

variable "cloud_map_namespace_name" {
  description = "Private DNS domain in which container names are published; null for `<name>.local`, so `sockerless.local`."
  type        = string
  default     = null

  validation {
    condition     = var.cloud_map_namespace_name == null || can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.cloud_map_namespace_name))
    error_message = "The namespace must be a domain of at least two lowercase labels, as in sockerless.local."
  }
}

# Roles

variable "task_cloud_map_registration" {
  description = "Whether the containers' own role may register instances in Cloud Map. The backend does that with its own role, so false is safer where no container registers itself."
  type        = bool
  default     = true
}

variable "attach_execution_managed_policy" {
  description = "Whether the execution role also has AWS's AmazonECSTaskExecutionRolePolicy, which lets it pull from every ECR repository and write every log group of the account. Without it, those of this module only."
  type        = bool
  default     = true
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

# Images

variable "create_ecr_repository" {
  description = "Whether an ECR repository is made for the agent's image and for images that are loaded, imported or committed."
  type        = bool
  default     = true
}

variable "pull_through_caches" {
  description = "Registries that tasks pull from through a pull-through cache of this account, which has to exist: the prefix of its repositories by the registry's host, as in `{ \"docker.io\" = \"docker-hub\" }`."
  type        = map(string)
  default     = {}

  validation {
    condition = alltrue([
      for host, prefix in var.pull_through_caches :
      can(regex("^[a-z0-9.-]+(:[0-9]+)?$", host)) && can(regex("^[a-z0-9]+([._/-][a-z0-9]+)*$", prefix))
    ])
    error_message = "Each cache must be a registry's host and a prefix of repositories, as in docker.io and docker-hub."
  }
}

variable "ecr_untagged_expiry_days" {
  description = "After how many days images without a tag are deleted."
  type        = number
  default     = 7

  validation {
    condition     = var.ecr_untagged_expiry_days >= 1 && floor(var.ecr_untagged_expiry_days) == var.ecr_untagged_expiry_days
    error_message = "Images without a tag are kept for at least one whole day."
  }
}

variable "ecr_force_delete" {
  description = "Whether `terraform destroy` deletes the repository with the images in it."
  type        = bool
  default     = false
}
