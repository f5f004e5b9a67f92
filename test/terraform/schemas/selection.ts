/** Selection from the providers' schemas: what the modules use, and what the bindings leave out of it. */

export interface ProviderSelection {
  readonly name: "aws" | "azurerm";
  /** npm package and version. */
  readonly package: string;
  /** The provider's version that the package was generated from. */
  readonly version: string;
  readonly resources: readonly string[];
  readonly dataSources: readonly string[];
  /**
   * Optional attributes that the provider fills when the configuration does not: the bindings say only that they may be
   * left out. From the provider's documentation; only what the modules leave out and something reads.
   */
  readonly alsoComputed: Readonly<Record<string, readonly string[]>>;
  /** Attributes that Terraform must not print, which the bindings do not say either. */
  readonly sensitive: Readonly<Record<string, readonly string[]>>;
}

/** The oldest provider that a module takes, and the package that was generated from it. */
export interface ProviderFloor {
  readonly name: ProviderSelection["name"];
  readonly package: string;
  readonly version: string;
}

/** Floors by module. */
export const floors = {
  ecs: { name: "aws", package: "@cdktf/provider-aws@19.18.0", version: "5.49.0" },
  "ecs-service": { name: "aws", package: "@cdktf/provider-aws@19.43.0", version: "5.77.0" },
  aca: { name: "azurerm", package: "@cdktf/provider-azurerm@13.17.0", version: "4.17.0" },
} as const satisfies Readonly<Record<string, ProviderFloor>>;

export const providers: readonly ProviderSelection[] = [
  {
    name: "aws",
    package: "@cdktf/provider-aws@19.65.1",
    version: "5.99.1",
    resources: [
      "aws_cloudwatch_log_group",
      "aws_ecr_lifecycle_policy",
      "aws_ecr_repository",
      "aws_ecs_cluster",
      "aws_ecs_cluster_capacity_providers",
      "aws_ecs_service",
      "aws_ecs_task_definition",
      "aws_efs_access_point",
      "aws_efs_file_system",
      "aws_efs_file_system_policy",
      "aws_efs_mount_target",
      "aws_eip",
      "aws_iam_role",
      "aws_iam_role_policy",
      "aws_iam_role_policy_attachment",
      "aws_internet_gateway",
      "aws_lb",
      "aws_lb_listener",
      "aws_lb_target_group",
      "aws_nat_gateway",
      "aws_route",
      "aws_route_table",
      "aws_route_table_association",
      "aws_security_group",
      "aws_service_discovery_private_dns_namespace",
      "aws_service_discovery_service",
      "aws_subnet",
      "aws_vpc",
      "aws_vpc_endpoint",
      "aws_vpc_security_group_egress_rule",
      "aws_vpc_security_group_ingress_rule",
    ],
    dataSources: [
      "aws_availability_zones",
      "aws_caller_identity",
      "aws_iam_policy_document",
      "aws_partition",
      "aws_region",
      "aws_vpc",
    ],
    alsoComputed: {
      aws_availability_zones: ["state"],
      aws_efs_file_system: ["availability_zone_name", "creation_token", "kms_key_id", "performance_mode"],
      aws_efs_mount_target: ["ip_address"],
      aws_eip: ["address", "network_border_group", "public_ipv4_pool"],
      aws_iam_policy_document: ["version"],
      aws_lb: ["ip_address_type"],
      aws_lb_target_group: ["ip_address_type", "preserve_client_ip"],
      aws_nat_gateway: ["private_ip"],
      aws_region: ["name", "endpoint"],
      aws_subnet: ["availability_zone_id"],
      aws_vpc: ["cidr_block", "default", "dhcp_options_id", "state"],
      aws_vpc_endpoint: ["ip_address_type", "policy"],
    },
    sensitive: {},
  },
  {
    name: "azurerm",
    package: "@cdktf/provider-azurerm@14.23.1",
    version: "4.55.0",
    resources: [
      "azurerm_container_app_environment",
      "azurerm_container_registry",
      "azurerm_log_analytics_workspace",
      "azurerm_private_dns_zone",
      "azurerm_private_dns_zone_virtual_network_link",
      "azurerm_resource_group",
      "azurerm_role_assignment",
      "azurerm_storage_account",
      "azurerm_subnet",
      "azurerm_user_assigned_identity",
      "azurerm_virtual_network",
    ],
    dataSources: ["azurerm_client_config", "azurerm_resource_group"],
    alsoComputed: {
      azurerm_container_app_environment: ["infrastructure_resource_group_name", "logs_destination"],
      azurerm_role_assignment: ["name", "principal_type", "role_definition_id", "role_definition_name"],
      azurerm_storage_account: ["access_tier", "large_file_share_enabled"],
    },
    sensitive: {
      azurerm_container_registry: ["admin_password"],
      azurerm_log_analytics_workspace: ["primary_shared_key", "secondary_shared_key"],
      azurerm_storage_account: [
        "primary_access_key",
        "primary_connection_string",
        "secondary_access_key",
        "secondary_connection_string",
      ],
    },
  },
];
