/** Permissions, tags and pages, which EC2's requests have in common. */
import type { TagSpecification } from "@aws-sdk/client-ec2";

import type { AccessRequest } from "../../iam/access.ts";
import { AwsFault, type Given } from "../../wire/service.ts";
import { pagesOf } from "../pages.ts";
import { checkedTags, tagMap } from "../tags.ts";

/** EC2's describing calls have no resource level. */
export function describeAccess(action: string): AccessRequest[] {
  return [{ action: `ec2:${action}`, resource: "*" }];
}

/**
 * The tags that a request gives to what it creates.
 *
 * @throws AwsFault `InvalidParameterValue`
 */
export function newTags(
  specifications: readonly Given<TagSpecification>[] | undefined,
  resourceType: string,
): Record<string, string> {
  const tags: Record<string, string> = {};
  for (const { ResourceType, Tags } of specifications ?? []) {
    if (ResourceType !== resourceType) {
      const message = `'${ResourceType}' is not a valid taggable resource type for this operation.`;
      throw new AwsFault("InvalidParameterValue", message);
    }
    Object.assign(tags, tagMap(Tags));
  }
  return checkedTags(tags, "InvalidParameterValue");
}

/** A page of what was found: a thousand where the request names no number. */
export const requirePage = pagesOf("InvalidNextToken", 1000);
