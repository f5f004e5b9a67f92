/** EC2's calls about security groups. */
import type {
  AuthorizeSecurityGroupIngressCommandInput,
  IpPermission,
  RevokeSecurityGroupEgressCommandInput,
} from "@aws-sdk/client-ec2";

import { arnOf, type Context } from "../../context.ts";
import type { AccessRequest } from "../../iam/access.ts";
import { AwsFault, type Given, type Operation, operations } from "../../wire/service.ts";
import { requestTagContext, resourceTagContext, tagList } from "../tags.ts";
import { applyFilters } from "./filters.ts";
import type { SecurityGroup } from "./groups.ts";
import type { Network } from "./network.ts";
import { describedRule, permissionsOf, rulesOf, type StoredRule } from "./rules.ts";
import { describeAccess, newTags, requirePage } from "./requests.ts";

/** The input that the calls of Authorize and Revoke have in common. */
type RuleInput = Partial<
  Given<AuthorizeSecurityGroupIngressCommandInput & RevokeSecurityGroupEgressCommandInput>
>;

/** The operations on groups and their rules. */
export function groupOperations(context: Context, network: Network): Readonly<Record<string, Operation>> {
  const { groups, vpcId } = network;
  const { accountId } = context;
  const groupArn = (groupId: string): string => arnOf(context, "ec2", `security-group/${groupId}`);
  const ruleArn = (ruleId: string): string => arnOf(context, "ec2", `security-group-rule/${ruleId}`);
  const vpcArn = arnOf(context, "ec2", `vpc/${vpcId}`);

  const changeAccess = (action: string, groupId: string | undefined): AccessRequest[] => {
    const group = groups.find(groupId ?? "");
    return [
      {
        action: `ec2:${action}`,
        resource: groupArn(groupId ?? "*"),
        context: { "ec2:Vpc": vpcArn, ...resourceTagContext(group?.tags ?? {}) },
      },
    ];
  };

  const required = (groupId: string | undefined): string => {
    if (groupId === undefined) {
      const message = "The request must contain the parameter groupName or groupId";
      throw new AwsFault("MissingParameter", message);
    }
    return groups.get(groupId).groupId;
  };

  const shownRule = (rule: StoredRule) => describedRule(rule, accountId, ruleArn(rule.ruleId));

  const shownGroup = (group: SecurityGroup) => ({
    GroupId: group.groupId,
    GroupName: group.name,
    Description: group.description,
    OwnerId: accountId,
    VpcId: vpcId,
    SecurityGroupArn: groupArn(group.groupId),
    Tags: tagList(group.tags),
    IpPermissions: permissionsOf(inDirection(group, "ingress"), accountId),
    IpPermissionsEgress: permissionsOf(inDirection(group, "egress"), accountId),
  });

  const authorize = (direction: "ingress" | "egress", input: RuleInput) => {
    const groupId = required(input.GroupId);
    const rules = rulesOf({ groupId, direction }, permissionsIn(input));
    const tags = newTags(input.TagSpecifications, "security-group-rule");
    const added = groups.authorize(groupId, rules, tags);
    return { Return: true, SecurityGroupRules: added.map(shownRule) };
  };

  const revoke = (direction: "ingress" | "egress", input: RuleInput) => {
    const groupId = required(input.GroupId);
    const revoked = groups.revoke(groupId, rulesOf({ groupId, direction }, permissionsIn(input)));
    return {
      Return: true,
      RevokedSecurityGroupRules: revoked.map((rule) => {
        const { SecurityGroupRuleId, GroupId, IsEgress, IpProtocol, FromPort, ToPort, CidrIpv4 } =
          shownRule(rule);
        const peer = "groupId" in rule.peer ? { ReferencedGroupId: rule.peer.groupId } : { CidrIpv4 };
        return { SecurityGroupRuleId, GroupId, IsEgress, IpProtocol, FromPort, ToPort, ...peer };
      }),
    };
  };

  return operations<typeof import("@aws-sdk/client-ec2")>({
    CreateSecurityGroup: {
      access: ({ TagSpecifications }) => {
        const tags = requestTagContext(newTags(TagSpecifications, "security-group"));
        const resource = groupArn("*");
        const created: AccessRequest[] = [
          { action: "ec2:CreateSecurityGroup", resource: vpcArn, context: tags },
          { action: "ec2:CreateSecurityGroup", resource, context: { ...tags, "ec2:Vpc": vpcArn } },
        ];
        return TagSpecifications === undefined
          ? created
          : [
              ...created,
              {
                action: "ec2:CreateTags",
                resource,
                context: { ...tags, "ec2:CreateAction": "CreateSecurityGroup" },
              },
            ];
      },
      run: ({ GroupName, Description, VpcId, TagSpecifications }) => {
        if (VpcId === undefined) {
          throw new AwsFault("VPCIdNotSpecified", "No default VPC for this user");
        }
        if (VpcId !== vpcId) {
          throw new AwsFault("InvalidVpcID.NotFound", `The vpc ID '${VpcId}' does not exist`);
        }
        const name = groupText(GroupName, "groupName");
        const description = groupText(Description, "groupDescription");
        if (name.startsWith("sg-")) {
          const message = "Group names cannot start with sg-";
          throw new AwsFault("InvalidParameterValue", message);
        }
        const group = groups.create(name, description, newTags(TagSpecifications, "security-group"), vpcId);
        return {
          GroupId: group.groupId,
          Tags: tagList(group.tags),
          SecurityGroupArn: groupArn(group.groupId),
        };
      },
    },

    DeleteSecurityGroup: {
      access: ({ GroupId }) => changeAccess("DeleteSecurityGroup", GroupId),
      run: ({ GroupId }) => {
        const groupId = required(GroupId);
        groups.delete(groupId);
        return { Return: true, GroupId: groupId };
      },
    },

    AuthorizeSecurityGroupIngress: {
      access: ({ GroupId }) => changeAccess("AuthorizeSecurityGroupIngress", GroupId),
      run: (input) => authorize("ingress", input),
    },

    AuthorizeSecurityGroupEgress: {
      access: ({ GroupId }) => changeAccess("AuthorizeSecurityGroupEgress", GroupId),
      run: (input) => authorize("egress", input),
    },

    RevokeSecurityGroupIngress: {
      access: ({ GroupId }) => changeAccess("RevokeSecurityGroupIngress", GroupId),
      run: (input) => revoke("ingress", input),
    },

    RevokeSecurityGroupEgress: {
      access: ({ GroupId }) => changeAccess("RevokeSecurityGroupEgress", GroupId),
      run: (input) => revoke("egress", input),
    },

    DescribeSecurityGroups: {
      access: () => describeAccess("DescribeSecurityGroups"),
      run: (input) => {
        if (input.GroupNames !== undefined) {
          const message = "Group names can be asked for in a default VPC only; use the filter group-name";
          throw new AwsFault("InvalidParameterValue", message);
        }
        const asked = input.GroupIds?.map((groupId) => groups.get(groupId)) ?? groups.known();
        const peersOf = (group: SecurityGroup, direction: string): string[] =>
          inDirection(group, direction).flatMap(({ peer }) => ("groupId" in peer ? [peer.groupId] : []));
        const found = applyFilters(
          asked,
          input.Filters,
          {
            "group-id": ({ groupId }) => [groupId],
            "group-name": ({ name }) => [name],
            description: ({ description }) => [description],
            "owner-id": () => [accountId],
            "vpc-id": () => [vpcId],
            "ip-permission.group-id": (group) => peersOf(group, "ingress"),
            "egress.ip-permission.group-id": (group) => peersOf(group, "egress"),
          },
          ({ tags }) => tags,
        );
        const { items, next } = requirePage(found, input.NextToken, input.MaxResults);
        return { SecurityGroups: items.map(shownGroup), NextToken: next };
      },
    },
  });
}

function inDirection(group: SecurityGroup, direction: string): StoredRule[] {
  return group.rules.filter((rule) => rule.direction === direction);
}

/** The permissions of a request; a single one in parameters of its own is not simulated. */
function permissionsIn(input: RuleInput): readonly Given<IpPermission>[] {
  if (input.IpPermissions === undefined) {
    throw new AwsFault("MissingParameter", "only rules in IpPermissions are simulated", 501);
  }
  return input.IpPermissions;
}

/** Checks a group's name or description: up to 255 letters, digits, spaces and `._-:/()#,@[]+=&;{}!$*`. */
function groupText(text: string | undefined, parameter: string): string {
  if (text === undefined || text === "") {
    throw new AwsFault("MissingParameter", `The request must contain the parameter ${parameter}`);
  }
  if (!/^[a-zA-Z0-9 ._\-:/()#,@[\]+=&;{}!$*]{1,255}$/.test(text)) {
    const message = `Value (${text}) for parameter ${parameter} is invalid. Character sets beyond ASCII are not supported.`;
    throw new AwsFault("InvalidParameterValue", message);
  }
  return text;
}
