/** Permissions, tags and pages, which EC2's requests have in common. */
import type { TagSpecification } from "@aws-sdk/client-ec2";

import type { AccessRequest } from "../../iam/access.ts";
import { AwsFault, type Given } from "../../wire/service.ts";
import { type Page, pageOf } from "../pages.ts";
import { tagMap, tagViolation } from "../tags.ts";

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
  return checkedTags(tags);
}

/** @throws AwsFault `InvalidParameterValue`, `TagLimitExceeded` */
export function checkedTags(tags: Record<string, string>): Record<string, string> {
  const violation = tagViolation(tags);
  if (violation !== undefined) {
    const code = Object.keys(tags).length > 50 ? "TagLimitExceeded" : "InvalidParameterValue";
    throw new AwsFault(code, violation);
  }
  return tags;
}

/**
 * A page of what was found: a thousand where the request names no number.
 *
 * @throws AwsFault `InvalidNextToken`
 */
export function requirePage<Item>(
  all: readonly Item[],
  token: string | undefined,
  size: number | undefined,
): Page<Item> {
  const page = pageOf(all, token, size ?? 1000);
  if (page === undefined) {
    throw new AwsFault("InvalidNextToken", `The token '${token}' is invalid`);
  }
  return page;
}
