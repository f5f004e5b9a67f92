/** Pages of ECS' lists, and tags of definitions, tasks and clusters in ECS' spelling of them. */
import { pagesOf } from "../pages.ts";
import { checkedTags } from "../tags.ts";

/** A page as ECS' lists have them: a hundred at most. */
export const ecsPage = pagesOf("InvalidParameterException", 100, 100);

/** A tag as ECS has it. */
export interface EcsTag {
  key: string;
  value: string;
}

/** Tags by key; of two with one key the last counts. */
export function ecsTagMap(
  tags: readonly { readonly key?: string; readonly value?: string }[] | undefined,
): Record<string, string> {
  return Object.fromEntries((tags ?? []).map(({ key = "", value = "" }) => [key, value]));
}

/** All tags of the service, by the resource's ARN. */
export class EcsTags {
  readonly #byArn = new Map<string, Readonly<Record<string, string>>>();

  of(arn: string): Readonly<Record<string, string>> {
    return this.#byArn.get(arn) ?? {};
  }

  list(arn: string): EcsTag[] {
    return Object.entries(this.of(arn)).map(([key, value]) => ({ key, value }));
  }

  /** @throws AwsFault `InvalidParameterException` for tags that AWS does not have */
  set(arn: string, tags: Record<string, string>): void {
    this.#byArn.set(arn, checkedTags(tags, "InvalidParameterException"));
  }

  forget(arn: string): void {
    this.#byArn.delete(arn);
  }
}
