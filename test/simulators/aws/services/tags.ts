/** Tags, as all services limit them. */
import { AwsFault } from "../wire/service.ts";

/** A tag in a service's answers and requests. */
export interface Tag {
  readonly Key: string;
  readonly Value: string;
}

/** Letters, digits, spaces and a few signs. */
const allowed = /^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$/u;

/** @throws AwsFault with the service's code, for tags that AWS does not have */
export function checkedTags(tags: Record<string, string>, refusal: string): Record<string, string> {
  const violation = tagViolation(tags);
  if (violation !== undefined) {
    throw new AwsFault(refusal, violation);
  }
  return tags;
}

/** The first rule that the tags of a resource would break, in a sentence; undefined when they are in order. */
function tagViolation(tags: Readonly<Record<string, string>>): string | undefined {
  const entries = Object.entries(tags);
  if (entries.length > 50) {
    return "The maximum number of tags for a resource is 50";
  }
  for (const [key, value] of entries) {
    if (key === "" || [...key].length > 128 || !allowed.test(key)) {
      return `Tag key '${key}' must have 1 to 128 letters, digits, spaces or _.:/=+-@`;
    }
    if (/^aws:/i.test(key)) {
      return `Tag key '${key}' is reserved: it begins with aws:`;
    }
    if ([...value].length > 256 || !allowed.test(value)) {
      return `Tag value '${value}' must have at most 256 letters, digits, spaces or _.:/=+-@`;
    }
  }
  return undefined;
}

/** Tags by key; of two with one key the last counts. */
export function tagMap(
  tags: readonly { readonly Key?: string; readonly Value?: string }[] | undefined,
): Record<string, string> {
  return Object.fromEntries((tags ?? []).map(({ Key = "", Value = "" }) => [Key, Value]));
}

/** Tags as a list. */
export function tagList(tags: Readonly<Record<string, string>>): Tag[] {
  return Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
}

/** The condition keys that a request with these tags has. */
export function requestTagContext(tags: Readonly<Record<string, string>>): Record<string, string | string[]> {
  const context: Record<string, string | string[]> = {};
  for (const [key, value] of Object.entries(tags)) {
    context[`aws:RequestTag/${key}`] = value;
  }
  if (Object.keys(tags).length > 0) {
    context["aws:TagKeys"] = Object.keys(tags);
  }
  return context;
}

/** The condition keys that a resource with these tags has. */
export function resourceTagContext(tags: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(tags).map(([key, value]) => [`aws:ResourceTag/${key}`, value]));
}
