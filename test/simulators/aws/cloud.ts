/** The services as others see them: ECS reaches files, network, logs, images and secrets through these interfaces. */

/** A subnet of the VPC. */
export interface Subnet {
  readonly subnetId: string;
  readonly subnetArn: string;
  readonly vpcId: string;
  /**
   * `10.90.0.0/18`, or a range of IPv6 where it has that alone; its first address after the network's own is the router's,
   * which on this machine is the host.
   */
  readonly cidr: string;
  /** The host's address in this subnet. */
  readonly routerAddress: string;
  readonly availabilityZone: string;
}

/** A network interface of the VPC. */
export interface NetworkInterface {
  /** `eni-…` */
  readonly networkInterfaceId: string;
  readonly subnet: Subnet;
  /** An address of IPv4, or of IPv6 where the subnet has that alone. */
  readonly privateIpAddress: string;
  readonly privateDnsName: string;
  readonly macAddress: string;
  readonly groupIds: readonly string[];
  readonly description: string;
}

/** A rule of a security group. */
export interface SecurityRule {
  readonly groupId: string;
  readonly direction: "ingress" | "egress";
  /** `tcp`, `udp`, `icmp`, a protocol number, or `-1` for all. */
  readonly protocol: string;
  /** Ports, both included; -1 where the protocol has none or all are meant. */
  readonly fromPort: number;
  readonly toPort: number;
  /** The other side. */
  readonly peer: { readonly cidr: string } | { readonly groupId: string };
}

/** The VPC as the machinery of tasks sees it. */
export interface VpcNetwork {
  readonly vpcId: string;
  /** The range of the whole VPC. */
  readonly cidr: string;
  subnets(): readonly Subnet[];
  subnet(subnetId: string): Subnet | undefined;
  /** The group of interfaces that name none. */
  readonly defaultGroupId: string;
  hasGroup(groupId: string): boolean;
  /** Every rule of these groups. */
  rulesOf(groupIds: readonly string[]): readonly SecurityRule[];
  interfaces(): readonly NetworkInterface[];
  /**
   * A new interface with the next free address.
   *
   * @throws AwsFault `InvalidSubnetID.NotFound`, `InvalidGroup.NotFound`, `SecurityGroupsPerInterfaceLimitExceeded`,
   *   `InsufficientFreeAddressesInSubnet` or `NetworkInterfaceLimitExceeded`
   */
  createInterface(request: {
    readonly subnetId: string;
    readonly groupIds: readonly string[];
    readonly description: string;
  }): NetworkInterface;
  /** Gives the address back; one that is gone is no error. */
  deleteInterface(networkInterfaceId: string): void;
  /** Whether the rules let a packet from one interface reach a port of another, by both sides' rules. */
  allows(from: NetworkInterface, to: NetworkInterface, port: number, protocol?: "tcp" | "udp"): boolean;
  /** Calls back after rules or interfaces have changed; answers how to end it. */
  onChanged(listener: () => void): () => void;
}

/** A user and its groups, as an access point has them. */
export interface PosixUser {
  readonly uid: number;
  readonly gid: number;
  readonly secondaryGids: readonly number[];
}

/** A file system, opened for a task. */
export interface EfsMount {
  /** The directory on this machine that the task sees as the root. */
  readonly hostDirectory: string;
  /** The user as whom every operation is done; undefined: each is done as its own user. */
  readonly posixUser: PosixUser | undefined;
  /** Whether user 0 is treated as nobody, for want of `elasticfilesystem:ClientRootAccess`. */
  readonly rootSquash: boolean;
  /** Whether the mount is read-only, for want of `elasticfilesystem:ClientWrite`. */
  readonly readOnly: boolean;
}

/** EFS as tasks mount it. */
export interface FileSystems {
  /**
   * Opens what a definition's `efsVolumeConfiguration` names; the directory of an access point is made at the first mount.
   *
   * @throws Error whose message is what ECS puts after `ResourceInitializationError: failed to invoke EFS utils commands
   *   to set up EFS volumes: `
   */
  mount(request: {
    readonly fileSystemId: string;
    readonly rootDirectory?: string;
    readonly accessPointId?: string;
    readonly transitEncryption: boolean;
    /** `authorizationConfig.iam` */
    readonly iamEnabled: boolean;
    readonly taskRoleArn?: string;
    readonly networkInterface: NetworkInterface;
  }): EfsMount;
}

/** A line of a log. */
export interface LogEvent {
  /** Milliseconds since the epoch. */
  readonly timestamp: number;
  readonly message: string;
}

/** CloudWatch Logs as the awslogs driver uses it. */
export interface LogGroups {
  /** @throws AwsFault `ResourceNotFoundException`, `ResourceAlreadyExistsException` */
  createStream(group: string, stream: string): void;
  /**
   * Puts lines that came now, none above what an event may have.
   *
   * @throws AwsFault `ResourceNotFoundException`
   */
  putLines(group: string, stream: string, lines: readonly string[]): void;
}

/** ECR as tasks pull from it. */
export interface ImageRegistry {
  /** `127.0.0.1:port`, plain HTTP: the domain of the repositories' URIs. */
  readonly host: string;
  /**
   * The credentials with which ECS pulls.
   *
   * @throws AwsFault when the execution role may not
   */
  credentialsFor(roleArn: string): { readonly username: string; readonly password: string };
}

/** Secrets Manager as tasks use it. */
export interface Secrets {
  /** @throws AwsFault when there is none, or the role may not read it */
  valueFor(roleArn: string, secretArn: string): string;
}

/** Names of the VPC. */
export interface PrivateNames {
  /** IPv4 addresses of a name in lower case, without the last dot; undefined for a name that there is not. */
  addressesOf(name: string): readonly string[] | undefined;
}

/** The other services, as ECS reaches them. */
export interface Cloud {
  readonly network: VpcNetwork;
  readonly fileSystems: FileSystems;
  readonly logGroups: LogGroups;
  readonly registry: ImageRegistry;
  readonly secrets: Secrets;
  readonly names: PrivateNames;
}
