/** Security groups of one VPC: creation with rules, lookup, removal. */
import {
  AuthorizeSecurityGroupEgressCommand,
  AuthorizeSecurityGroupIngressCommand,
  CreateSecurityGroupCommand,
  DeleteSecurityGroupCommand,
  DescribeSecurityGroupsCommand,
  type DescribeSecurityGroupsCommandInput,
  DescribeSubnetsCommand,
  type EC2Client,
  type IpPermission,
  RevokeSecurityGroupEgressCommand,
  RevokeSecurityGroupIngressCommand,
  type SecurityGroup,
} from "@aws-sdk/client-ec2";

import type { Clock } from "../../../common/clock.ts";
import { systemError } from "../../../common/errors.ts";
import { pagesOf } from "../../cloud/calls/pages.ts";
import type { AwsService } from "../aws/clients.ts";
import { isAwsError } from "../aws/errors.ts";
import type { WrittenTag } from "../tags.ts";
import { missingRules, permissionOf, type Rule, surplusPermissions } from "./rules.ts";

/** A group to create. */
export interface NewGroup {
  readonly name: string;
  readonly description: string;
  readonly tags: readonly WrittenTag[];
}

/** Settings and dependencies of {@link SecurityGroups}. */
export interface SecurityGroupsOptions {
  readonly ec2: AwsService<EC2Client>;
  /** Any of the tasks' subnets: groups are created in its VPC. */
  readonly subnet: string;
  readonly clock: Clock;
}

/** Description of rules, shown in the console. */
const described = "sockerless";
/** Pauses in milliseconds between lookups of a new group, which EC2 shows to other calls only after a moment. */
const shownAfterMs = [200, 400, 800, 1600, 3200];

/** The groups of the tasks' VPC. All methods throw AwsError. */
export class SecurityGroups {
  readonly #options: SecurityGroupsOptions;
  #vpc: Promise<string> | undefined;

  constructor(options: SecurityGroupsOptions) {
    this.#options = options;
  }

  /** Creates a group, or finds the one with the name. A new group has no ingress rules and allows all egress. */
  async create({ name, description, tags }: NewGroup): Promise<SecurityGroup> {
    try {
      const made = await this.#options.ec2.send(
        new CreateSecurityGroupCommand({
          GroupName: name,
          Description: description,
          VpcId: await this.#vpcId(),
          TagSpecifications: [{ ResourceType: "security-group", Tags: [...tags] }],
        }),
      );
      return { GroupId: made.GroupId, GroupName: name, Tags: [...tags], IpPermissionsEgress: openEgress };
    } catch (error) {
      // An earlier attempt's answer may have been lost, and EC2 may not show the new group yet.
      const existing = isAwsError(error, "InvalidGroup.Duplicate")
        ? await this.namedOnceShown(name)
        : undefined;
      if (existing === undefined) {
        throw error;
      }
      return existing;
    }
  }

  /** The VPC's group with a name. */
  async named(name: string): Promise<SecurityGroup | undefined> {
    const filters = [
      { Name: "group-name", Values: [name] },
      { Name: "vpc-id", Values: [await this.#vpcId()] },
    ];
    return (await this.#describe({ Filters: filters }))[0];
  }

  /** The group with a name that may be new: retries until EC2 must show it. */
  async namedOnceShown(name: string): Promise<SecurityGroup | undefined> {
    for (const pause of shownAfterMs) {
      const found = await this.named(name);
      if (found !== undefined) {
        return found;
      }
      await this.#options.clock.sleep(pause);
    }
    return await this.named(name);
  }

  /** Groups by ID. @throws AwsError if one does not exist */
  withIds(groupIds: readonly string[]): Promise<SecurityGroup[]> {
    return this.#describe({ GroupIds: [...groupIds] });
  }

  /** All groups with a tag. */
  tagged(key: string, value?: string): Promise<SecurityGroup[]> {
    const filter =
      value === undefined ? { Name: "tag-key", Values: [key] } : { Name: `tag:${key}`, Values: [value] };
    return this.#describe({ Filters: [filter] });
  }

  /** Adds those of these rules that a group lacks. */
  async allow(group: SecurityGroup, wanted: readonly Rule[]): Promise<void> {
    const GroupId = group.GroupId ?? "";
    await this.#eachMissing(wanted, group.IpPermissions ?? [], (IpPermissions) =>
      this.#options.ec2.send(new AuthorizeSecurityGroupIngressCommand({ GroupId, IpPermissions })),
    );
  }

  /** Replaces a group's egress rules. */
  async allowOut(group: SecurityGroup, wanted: readonly Rule[]): Promise<void> {
    const { ec2 } = this.#options;
    const GroupId = group.GroupId ?? "";
    const present = group.IpPermissionsEgress ?? [];
    await this.#eachMissing(wanted, present, (IpPermissions) =>
      ec2.send(new AuthorizeSecurityGroupEgressCommand({ GroupId, IpPermissions })),
    );
    await takeAway(surplusPermissions(wanted, present), (IpPermissions) =>
      ec2.send(new RevokeSecurityGroupEgressCommand({ GroupId, IpPermissions })),
    );
  }

  /** Revokes rules; no error for missing ones. */
  async disallow(groupId: string, permissions: readonly IpPermission[]): Promise<void> {
    await takeAway(surplusPermissions([], permissions), (IpPermissions) =>
      this.#options.ec2.send(new RevokeSecurityGroupIngressCommand({ GroupId: groupId, IpPermissions })),
    );
  }

  /** Removes a group. @returns whether it is gone; not while an interface or another group's rule refers to it */
  async delete(groupId: string): Promise<boolean> {
    try {
      await this.#options.ec2.send(new DeleteSecurityGroupCommand({ GroupId: groupId }));
      return true;
    } catch (error) {
      if (isAwsError(error, "InvalidGroup.NotFound")) {
        return true;
      }
      if (isAwsError(error, "DependencyViolation", "InvalidGroup.InUse")) {
        return false;
      }
      throw error;
    }
  }

  /** Adds all missing rules in one call; if one of them has just been added by somebody else, one by one. */
  async #eachMissing(
    wanted: readonly Rule[],
    present: readonly IpPermission[],
    authorize: (permissions: IpPermission[]) => Promise<unknown>,
  ): Promise<void> {
    const missing = missingRules(wanted, present).map((rule) => permissionOf(rule, described));
    if (missing.length === 0) {
      return;
    }
    try {
      await this.#onceShown(() => authorize(missing));
    } catch (error) {
      if (!isAwsError(error, "InvalidPermission.Duplicate")) {
        throw error;
      }
      for (const permission of missing) {
        await authorize([permission]).catch((cause: unknown) => {
          if (!isAwsError(cause, "InvalidPermission.Duplicate")) {
            throw cause;
          }
        });
      }
    }
  }

  async #onceShown(call: () => Promise<unknown>): Promise<void> {
    for (const pause of shownAfterMs) {
      try {
        await call();
        return;
      } catch (error) {
        if (!isAwsError(error, "InvalidGroup.NotFound", "InvalidGroupId.NotFound")) {
          throw error;
        }
        await this.#options.clock.sleep(pause);
      }
    }
    await call();
  }

  async #describe(input: DescribeSecurityGroupsCommandInput): Promise<SecurityGroup[]> {
    const found: SecurityGroup[] = [];
    const size = input.GroupIds === undefined ? { MaxResults: 1000 } : {};
    const { ec2 } = this.#options;
    const pages = pagesOf(
      (NextToken) => ec2.send(new DescribeSecurityGroupsCommand({ ...input, ...size, NextToken })),
      (page) => page.NextToken,
    );
    for await (const { SecurityGroups = [] } of pages) {
      found.push(...SecurityGroups);
    }
    return found;
  }

  /** The VPC's ID, cached; after a failure the next caller asks again. */
  #vpcId(): Promise<string> {
    this.#vpc ??= this.#queryVpc();
    this.#vpc.catch(() => {
      this.#vpc = undefined;
    });
    return this.#vpc;
  }

  async #queryVpc(): Promise<string> {
    const { ec2, subnet } = this.#options;
    const { Subnets } = await ec2.send(new DescribeSubnetsCommand({ SubnetIds: [subnet] }));
    const vpc = Subnets?.[0]?.VpcId;
    if (vpc === undefined) {
      throw systemError(`ec2: DescribeSubnets: the subnet ${subnet} has no VPC`);
    }
    return vpc;
  }
}

/** EC2's egress rules of a new group; the second only if the VPC has IPv6. */
const openEgress: IpPermission[] = [
  { IpProtocol: "-1", IpRanges: [{ CidrIp: "0.0.0.0/0" }] },
  { IpProtocol: "-1", Ipv6Ranges: [{ CidrIpv6: "::/0" }] },
];

/** Revokes rules in one call; one by one if that is refused because of a missing one. */
async function takeAway(
  permissions: readonly IpPermission[],
  revoke: (permissions: IpPermission[]) => Promise<unknown>,
): Promise<void> {
  if (permissions.length === 0) {
    return;
  }
  try {
    await revoke([...permissions]);
  } catch (error) {
    if (isAwsError(error, "InvalidPermission.NotFound") && permissions.length > 1) {
      for (const permission of permissions) {
        await takeAway([permission], revoke);
      }
    } else if (!isAwsError(error, "InvalidPermission.NotFound", "InvalidGroup.NotFound")) {
      throw error;
    }
  }
}
