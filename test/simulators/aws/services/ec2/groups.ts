/** The security groups of the VPC. */
import type { Context } from "../../context.ts";
import type { SecurityRule } from "../../cloud.ts";
import { resourceId } from "../../ids.ts";
import { AwsFault } from "../../wire/service.ts";
import { describeRule, isSameRule, type NewRule, type StoredRule } from "./rules.ts";

/** A security group. */
export interface SecurityGroup {
  readonly groupId: string;
  readonly name: string;
  readonly description: string;
  /** Simulated milliseconds since the epoch, when other calls begin to know it. */
  readonly knownAt: number;
  tags: Readonly<Record<string, string>>;
  rules: readonly StoredRule[];
}

/** The rule that a new group has: everything may go out. */
const allOutbound = {
  direction: "egress",
  protocol: "-1",
  fromPort: -1,
  toPort: -1,
  peer: { cidr: "0.0.0.0/0" },
} as const satisfies Omit<SecurityRule, "groupId">;

/** The same for IPv6, which a new group has in a VPC with IPv6. */
const allIpv6Outbound = { ...allOutbound, peer: { cidr: "::/0" } };

/** The groups, and what may be done to them. */
export class SecurityGroups {
  readonly #context: Context;
  readonly #groups = new Map<string, SecurityGroup>();
  readonly #isUsed: (groupId: string) => boolean;
  readonly #changed: () => void;
  readonly #openRules: readonly Omit<SecurityRule, "groupId">[];

  /**
   * @param isUsed whether an interface has the group
   * @param changed called after every change of rules
   * @param ipv6 whether the VPC has IPv6
   */
  constructor(context: Context, isUsed: (groupId: string) => boolean, changed: () => void, ipv6: boolean) {
    this.#openRules = ipv6 ? [allOutbound, allIpv6Outbound] : [allOutbound];
    this.#context = context;
    this.#isUsed = isUsed;
    this.#changed = changed;
  }

  all(): readonly SecurityGroup[] {
    return [...this.#groups.values()];
  }

  /** A group that calls know. */
  find(groupId: string): SecurityGroup | undefined {
    const group = this.#groups.get(groupId);
    return group !== undefined && this.#isKnown(group) ? group : undefined;
  }

  /** The groups that calls know, which may not be those that were made just now. */
  known(): readonly SecurityGroup[] {
    return this.all().filter((group) => this.#isKnown(group));
  }

  /** @throws AwsFault `InvalidGroup.NotFound`, `InvalidGroupId.Malformed` */
  get(groupId: string): SecurityGroup {
    if (!/^sg-[0-9a-f]{8,17}$/.test(groupId)) {
      throw new AwsFault("InvalidGroupId.Malformed", `Invalid id: "${groupId}" (expecting "sg-...")`);
    }
    const group = this.find(groupId);
    if (group === undefined) {
      throw new AwsFault("InvalidGroup.NotFound", `The security group '${groupId}' does not exist`);
    }
    return group;
  }

  /** @throws AwsFault `InvalidGroup.Duplicate`, `SecurityGroupLimitExceeded` */
  create(
    name: string,
    description: string,
    tags: Readonly<Record<string, string>>,
    vpcId: string,
  ): SecurityGroup {
    if (this.all().some((group) => group.name === name)) {
      const message = `The security group '${name}' already exists for VPC '${vpcId}'`;
      throw new AwsFault("InvalidGroup.Duplicate", message);
    }
    if (this.#groups.size >= this.#context.quotas.securityGroupsPerVpc) {
      const message = "The maximum number of security groups for this VPC has been reached.";
      throw new AwsFault("SecurityGroupLimitExceeded", message);
    }
    const groupId = resourceId("sg");
    const rules = this.#openRules.map((rule) => ({ ...rule, groupId, ruleId: resourceId("sgr"), tags: {} }));
    const knownAt = this.#context.clock.nowMs() + this.#context.switches.eventualConsistencyMs.ec2;
    const group: SecurityGroup = { groupId, name, description, knownAt, tags, rules };
    this.#groups.set(groupId, group);
    this.#changed();
    return group;
  }

  /** @throws AwsFault `DependencyViolation`, `CannotDelete`, `InvalidGroup.NotFound` */
  delete(groupId: string): void {
    const group = this.get(groupId);
    if (group.name === "default") {
      const message = `the specified group: "${groupId}" name: "default" cannot be deleted by a user`;
      throw new AwsFault("CannotDelete", message);
    }
    const isNamed = this.all().some(
      (other) =>
        other !== group && other.rules.some(({ peer }) => "groupId" in peer && peer.groupId === groupId),
    );
    if (isNamed || this.#isUsed(groupId)) {
      throw new AwsFault("DependencyViolation", `resource ${groupId} has a dependent object`);
    }
    this.#groups.delete(groupId);
    this.#changed();
  }

  /**
   * Adds rules, all or none.
   *
   * @throws AwsFault `InvalidPermission.Duplicate`, `RulesPerSecurityGroupLimitExceeded`, `InvalidGroup.NotFound`
   */
  authorize(
    groupId: string,
    rules: readonly NewRule[],
    tags: Readonly<Record<string, string>>,
  ): StoredRule[] {
    const group = this.get(groupId);
    for (const [index, rule] of rules.entries()) {
      if ("groupId" in rule.peer) {
        this.get(rule.peer.groupId);
      }
      if (rules.slice(0, index).some((earlier) => isSameRule(earlier, rule))) {
        const message = "The same permission must not appear multiple times";
        throw new AwsFault("InvalidParameterValue", message);
      }
      if (group.rules.some((existing) => isSameRule(existing, rule))) {
        const message = `the specified rule "${describeRule(rule)}" already exists`;
        throw new AwsFault("InvalidPermission.Duplicate", message);
      }
    }
    const added = rules.map((rule) => ({ ...rule, ruleId: resourceId("sgr"), tags }));
    const all = [...group.rules, ...added];
    for (const direction of ["ingress", "egress"]) {
      const count = all.filter((rule) => rule.direction === direction).length;
      if (count > this.#context.quotas.rulesPerSecurityGroup) {
        const message = "The maximum number of rules per security group has been reached.";
        throw new AwsFault("RulesPerSecurityGroupLimitExceeded", message);
      }
    }
    group.rules = all;
    this.#changed();
    return added;
  }

  /**
   * Takes rules away: all of them, or none where one is not there, as in every VPC but a default one.
   *
   * @throws AwsFault `InvalidGroup.NotFound`, `InvalidPermission.NotFound`
   */
  revoke(groupId: string, rules: readonly NewRule[]): StoredRule[] {
    const group = this.get(groupId);
    const revoked = rules.map((rule) => {
      const found = group.rules.find((existing) => isSameRule(existing, rule));
      if (found === undefined) {
        const message = "The specified rule does not exist in this security group.";
        throw new AwsFault("InvalidPermission.NotFound", message);
      }
      return found;
    });
    return this.#remove(group, revoked);
  }

  #isKnown({ knownAt }: SecurityGroup): boolean {
    return knownAt <= this.#context.clock.nowMs();
  }

  #remove(group: SecurityGroup, rules: StoredRule[]): StoredRule[] {
    group.rules = group.rules.filter((rule) => !rules.includes(rule));
    this.#changed();
    return rules;
  }
}
