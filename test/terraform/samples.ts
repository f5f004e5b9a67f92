/** Values that the modules' variables must refuse, and some that they must accept. */

export interface VariableSamples {
  readonly wrong: readonly unknown[];
  readonly right?: unknown;
}

export interface ModuleSamples {
  /** Values of variables without a default. */
  readonly required: Readonly<Record<string, unknown>>;
  /** By variable. */
  readonly values: Readonly<Record<string, VariableSamples>>;
}

/** Variables that are each right, and together wrong. */
export interface Contradiction {
  readonly title: string;
  readonly variables: Readonly<Record<string, unknown>>;
  readonly message: RegExp;
}

const names = ["", "Sockerless", "a", "-a", "a".repeat(25), "a_b"];
const networks = ["", "10.0.0.0", "10.0.0.0/33", "300.0.0.0/16", "fd00::/64"];
const manyTags = Object.fromEntries(Array.from({ length: 41 }, (_, index) => [`tag${index}`, "x"]));
const general: Readonly<Record<string, VariableSamples>> = {
  name: { wrong: names, right: "ci-runners-2" },
  environment: { wrong: ["", "  "], right: "production" },
  tags: { wrong: [manyTags], right: { team: "ci" } },
};
const awsName = { wrong: [...names, "sg-a", "internal-a"], right: "ci-runners-2" };
const stateEfs = {
  access_point_arn: "arn:aws:elasticfilesystem:us-east-1:123456789012:access-point/fsap-0a",
  filesystem_id: "fs-0a",
  security_group_id: "sg-0a",
};
const iamBoundary = { wrong: ["boundary"], right: "arn:aws:iam::123456789012:policy/boundary" };
const key = { wrong: ["alias/key"], right: "arn:aws:kms:us-east-1:123456789012:key/1" };
const logRetention = { wrong: [0, -1, 2, 31, 1.5], right: 365 };
const secret = (name: string): string => `arn:aws:secretsmanager:us-east-1:123456789012:secret:${name}`;
const tls = { ca: secret("ca"), cert: secret("cert"), key: secret("key") };

export const samples: Readonly<Record<"ecs" | "ecs-service" | "aca", ModuleSamples>> = {
  ecs: {
    required: {},
    values: {
      ...general,
      name: awsName,
      vpc_cidr: { wrong: [...networks, "10.0.0.0/8", "10.0.0.0/29"], right: "172.30.0.0/20" },
      availability_zone_count: { wrong: [0, -1, 1.5], right: 3 },
      availability_zones: { wrong: [["us-east-1a", "us-east-1a"], [""]] },
      private_subnet_cidrs: { wrong: networks.map((network) => [network]) },
      public_subnet_cidrs: { wrong: networks.map((network) => [network]) },
      nat_gateway_count: { wrong: [-1, 0.5], right: 3 },
      vpc_id: { wrong: ["", "subnet-0a"] },
      private_subnet_ids: { wrong: [[""], ["vpc-0a"]] },
      public_subnet_ids: { wrong: [[""], ["vpc-0a"]] },
      private_route_table_ids: { wrong: [[""], ["subnet-0a"]], right: ["rtb-0a"] },
      task_subnets: { wrong: ["", "both"], right: "public" },
      vpc_endpoint_services: { wrong: [["ECR"], [""]], right: ["ecs"] },
      agent_ingress_cidrs: { wrong: networks.map((network) => [network]), right: ["10.8.0.0/16"] },
      agent_ingress_security_group_ids: { wrong: [[""], ["10.0.0.0/8"]], right: ["sg-0a"] },
      callback_url: { wrong: ["", "http://sockerless.example.com", "wss://a b"] },
      callback_listen: { wrong: ["", "8443", "tcp://[::]"] },
      capacity_provider: { wrong: ["", "EC2"], right: "FARGATE_SPOT" },
      efs_performance_mode: { wrong: ["", "max"], right: "maxIO" },
      efs_throughput_mode: { wrong: ["", "fast"], right: "provisioned" },
      efs_provisioned_throughput_mibps: { wrong: [0, 5000], right: 128 },
      efs_kms_key_arn: key,
      efs_transition_to_ia: { wrong: ["", "AFTER_8_DAYS"], right: "AFTER_7_DAYS" },
      efs_administrator_role_arns: {
        wrong: [["admin"], ["arn:aws:iam::123456789012:role/*"], ["arn:aws:iam::123456789012:user/x"]],
        right: ["arn:aws:iam::123456789012:role/admin"],
      },
      state_services: { wrong: [[""], ["UPPER"], ["one", "one"]], right: ["one", "two"] },
      log_group_name: { wrong: ["", "a group"], right: "/ci/containers" },
      log_retention_days: logRetention,
      log_kms_key_arn: key,
      secrets_kms_key_arn: key,
      cloud_map_namespace_name: {
        wrong: ["", "local", "Containers.local", "-a.local"],
        right: "ci.internal",
      },
      iam_permissions_boundary_arn: iamBoundary,
      pull_through_caches: {
        wrong: [
          { "docker.io": "" },
          { "": "docker-hub" },
          { "docker.io": "Docker-Hub" },
          { "docker.io": "a/" },
        ],
        right: { "docker.io": "docker-hub" },
      },
      ecr_untagged_expiry_days: { wrong: [0, -7, 1.5], right: 1 },
    },
  },
  "ecs-service": {
    required: {
      cluster_arn: "arn:aws:ecs:us-east-1:123456789012:cluster/sockerless",
      sockerless_config: "ecs:\n  cluster: sockerless\n",
      backend_policy_json: JSON.stringify({ Version: "2012-10-17", Statement: [] }),
      vpc_id: "vpc-0a",
      subnet_ids: ["subnet-0a"],
      task_security_group_id: "sg-0a",
      image: "registry.example/sockerless:1",
      agent_ca_secret_arn: secret("agent-ca"),
      tls_secret_arns: tls,
    },
    values: {
      ...general,
      name: awsName,
      cluster_arn: { wrong: ["", "sockerless"] },
      sockerless_config: { wrong: ["", "aca: {}", "ecs: {"] },
      backend_policy_json: { wrong: ["", "{}"] },
      vpc_id: { wrong: ["", "subnet-0a"] },
      subnet_ids: { wrong: [[], [""], ["vpc-0a"]], right: ["subnet-0a", "subnet-0b"] },
      task_security_group_id: { wrong: ["", "vpc-0a"] },
      cloud_map: {
        wrong: [{ namespace_id: "" }, { namespace_id: "local" }],
        right: { namespace_id: "ns-0a" },
      },
      image: { wrong: ["", "  "] },
      image_repository_arn: {
        wrong: ["", "sockerless"],
        right: "arn:aws:ecr:us-east-1:123456789012:repository/sockerless",
      },
      agent_ca_secret_arn: { wrong: ["", "secret"] },
      tls_secret_arns: {
        wrong: [
          { ...tls, ca: "" },
          { ...tls, key: "key.pem" },
        ],
      },
      secrets_kms_key_arn: key,
      cpu: { wrong: [0, 300], right: 1024 },
      memory: { wrong: [0, 700, 65536], right: 2048 },
      architecture: { wrong: ["", "x86"], right: "arm64" },
      state_efs: {
        wrong: [
          { ...stateEfs, access_point_arn: "fsap-0a" },
          { ...stateEfs, filesystem_id: "" },
          { ...stateEfs, security_group_id: "" },
        ],
        right: stateEfs,
      },
      docker_port: { wrong: [0, 65536, -1, 23.76], right: 443 },
      client_cidrs: { wrong: networks.map((network) => [network]), right: ["10.0.0.0/16"] },
      published_ports: {
        wrong: [[{ from: 0, to: 80 }], [{ from: 80, to: 65536 }], [{ from: 90, to: 80 }]],
        right: [{ from: 30000, to: 32767 }],
      },
      load_balancer_subnet_ids: { wrong: [[""], ["vpc-0a"]], right: ["subnet-0c"] },
      log_level: { wrong: ["", "verbose"], right: "debug" },
      log_retention_days: logRetention,
      iam_permissions_boundary_arn: iamBoundary,
    },
  },
  aca: {
    required: {},
    values: {
      ...general,
      location: { wrong: ["", "West Europe"], right: "northeurope" },
      resource_group_name: { wrong: ["", "a/b", "ends."], right: "containers" },
      vnet_cidr: { wrong: networks, right: "172.20.0.0/16" },
      environment_subnet_cidr: { wrong: [...networks, "10.0.0.0/28"], right: "172.20.4.0/27" },
      private_dns_zone_name: { wrong: ["", "internal", "Ci.internal"], right: "ci.internal" },
      log_retention_days: { wrong: [0, 29, 731, 30.5], right: 90 },
      log_daily_quota_gb: { wrong: [0, -2], right: 5 },
      storage_account_name: { wrong: ["", "ab", "with-hyphen", "a".repeat(25)], right: "civolumes" },
      storage_account_tier: { wrong: ["", "Fast"], right: "Premium" },
      storage_replication_type: { wrong: ["", "NONE"], right: "ZRS" },
      storage_allowed_ip_ranges: {
        wrong: [[""], ["203.0.113.1/33"]],
        right: ["203.0.113.1", "203.0.113.0/24"],
      },
      container_registry_name: { wrong: ["", "abcd", "with-hyphen"], right: "ciImages" },
      container_registry_sku: { wrong: ["", "Free"], right: "Standard" },
      backend_principals: {
        wrong: [{ me: "" }, { me: "me@example.com" }],
        right: { me: "00000000-0000-4000-8000-000000000009" },
      },
      callback_url: { wrong: ["", "http://backend", "backend:443"], right: "wss://backend.example/agents" },
    },
  },
};

export const contradictions: Readonly<Record<keyof typeof samples, readonly Contradiction[]>> = {
  ecs: [
    {
      title: "more NAT gateways than zones",
      variables: { availability_zone_count: 2, nat_gateway_count: 3 },
      message: /more NAT gateways than availability zones/,
    },
    {
      title: "more zones than the region has",
      variables: { availability_zone_count: 9 },
      message: /fewer availability zones/,
    },
    {
      title: "subnets for some of the zones only",
      variables: { private_subnet_cidrs: ["10.0.0.0/20"] },
      message: /one network for each availability zone/,
    },
    {
      title: "a VPC too small to be cut into subnets",
      variables: { vpc_cidr: "10.0.0.0/24" },
      message: /name private_subnet_cidrs and public_subnet_cidrs/,
    },
    {
      title: "an existing VPC without subnets",
      variables: { create_vpc: false, vpc_id: "vpc-0a" },
      message: /must name an existing VPC/,
    },
    {
      title: "agents that call, and somebody who may reach them",
      variables: { callback_url: "wss://sockerless.example.com", agent_ingress_cidrs: ["10.8.0.0/16"] },
      message: /Agents that call are reached by nobody/,
    },
    {
      title: "an address for agents that do not call",
      variables: { callback_listen: "tcp://[::]:8443" },
      message: /callback_listen is for agents that call/,
    },
    {
      title: "a VPC's ID together with a new VPC",
      variables: { vpc_id: "vpc-0a" },
      message: /belong to an existing VPC/,
    },
    {
      title: "tasks in public subnets that nobody named",
      variables: {
        create_vpc: false,
        vpc_id: "vpc-0a",
        private_subnet_ids: ["subnet-0a"],
        task_subnets: "public",
      },
      message: /need public_subnet_ids/,
    },
    {
      title: "VPC endpoints without route tables",
      variables: {
        create_vpc: false,
        vpc_id: "vpc-0a",
        private_subnet_ids: ["subnet-0a"],
        enable_vpc_endpoints: true,
      },
      message: /need private_route_table_ids/,
    },
    {
      title: "provisioned throughput without a rate",
      variables: { efs_throughput_mode: "provisioned" },
      message: /goes with efs_throughput_mode/,
    },
    {
      title: "a rate without provisioned throughput",
      variables: { efs_provisioned_throughput_mibps: 10 },
      message: /goes with efs_throughput_mode/,
    },
    {
      title: "a key without encryption",
      variables: { efs_encrypted: false, efs_kms_key_arn: key.right },
      message: /goes with efs_encrypted/,
    },
    {
      title: "elastic throughput in maxIO",
      variables: { efs_performance_mode: "maxIO", efs_throughput_mode: "elastic" },
      message: /no elastic throughput/,
    },
  ],
  "ecs-service": [
    {
      title: "too much memory for a processor",
      variables: { cpu: 256, memory: 4096 },
      message: /2 to 8 GiB/,
    },
    {
      title: "too little memory for a processor",
      variables: { cpu: 1024, memory: 1024 },
      message: /2 to 8 GiB/,
    },
    {
      title: "half gibibytes of memory",
      variables: { cpu: 1024, memory: 2560 },
      message: /multiples of 1024/,
    },
    {
      title: "published ports behind a load balancer",
      variables: { enable_load_balancer: true, published_ports: [{ from: 8000, to: 8999 }] },
      message: /exclude each other/,
    },
  ],
  aca: [
    {
      title: "a subnet outside of the network",
      variables: { environment_subnet_cidr: "10.1.0.0/23" },
      message: /must lie within vnet_cidr/,
    },
    {
      title: "a subnet larger than the network",
      variables: { vnet_cidr: "10.0.0.0/24", environment_subnet_cidr: "10.0.0.0/23" },
      message: /must lie within vnet_cidr/,
    },
    {
      title: "an existing resource group without a name",
      variables: { create_resource_group: false },
      message: /must name an existing one/,
    },
    {
      title: "premium shares with geographic copies",
      variables: { storage_account_tier: "Premium", storage_replication_type: "GRS" },
      message: /replicated as LRS or ZRS/,
    },
    {
      title: "NFS shares that are not premium",
      variables: { nfs_shares: true },
      message: /NFS shares need storage_account_tier/,
    },
  ],
};
