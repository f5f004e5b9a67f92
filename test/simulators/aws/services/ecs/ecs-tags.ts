/** Tags of definitions, tasks and clusters, in ECS' spelling of them. */
import { AwsFault } from "../../wire/service.ts";
import { tagViolation } from "../tags.ts";

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
  set(arn: string, tags: Readonly<Record<string, string>>): void {
    checkEcsTags(tags);
    this.#byArn.set(arn, tags);
  }

  forget(arn: string): void {
    this.#byArn.delete(arn);
  }
}

/** @throws AwsFault `InvalidParameterException` for tags that AWS does not have */
function checkEcsTags(tags: Readonly<Record<string, string>>): void {
  const violation = tagViolation(tags);
  if (violation !== undefined) {
    throw new AwsFault("InvalidParameterException", violation);
  }
}
