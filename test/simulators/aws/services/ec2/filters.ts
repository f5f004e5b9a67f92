/** EC2's filters: a resource passes when for every filter one of its values fits one of the filter's. */
import type { Filter } from "@aws-sdk/client-ec2";

import { AwsFault, type Given } from "../../wire/service.ts";

/** The values of a kind of resource by the name of the filter; `tag:KEY` and `tag-key` filter tags too. */
export type FilterValues<Resource> = Readonly<Record<string, (resource: Resource) => readonly string[]>>;

const maxFilterValues = 200;

/** @throws AwsFault `InvalidParameterValue` for a filter that there is not, `FilterLimitExceeded` */
export function applyFilters<Resource>(
  resources: readonly Resource[],
  filters: readonly Given<Filter>[] | undefined,
  values: FilterValues<Resource>,
  tagsOf: (resource: Resource) => Readonly<Record<string, string>>,
): Resource[] {
  if ((filters ?? []).flatMap(({ Values = [] }) => Values).length > maxFilterValues) {
    const message = `The maximum number of filter values specified on a single call is ${maxFilterValues}`;
    throw new AwsFault("FilterLimitExceeded", message);
  }
  const tests = (filters ?? []).map(({ Name = "", Values = [] }) => {
    const patterns = Values.map(patternOf);
    const read = valueReader(Name, values, tagsOf);
    return (resource: Resource) => read(resource).some((value) => patterns.some((each) => each.test(value)));
  });
  return resources.filter((resource) => tests.every((test) => test(resource)));
}

function valueReader<Resource>(
  name: string,
  values: FilterValues<Resource>,
  tagsOf: (resource: Resource) => Readonly<Record<string, string>>,
): (resource: Resource) => readonly string[] {
  if (name === "tag-key") {
    return (resource) => Object.keys(tagsOf(resource));
  }
  if (name.startsWith("tag:")) {
    const key = name.slice("tag:".length);
    return (resource) => {
      const value = tagsOf(resource)[key];
      return value === undefined ? [] : [value];
    };
  }
  const read = values[name];
  if (read === undefined) {
    throw new AwsFault("InvalidParameterValue", `The filter '${name}' is invalid`);
  }
  return read;
}

/** `*` and `?` are wildcards, a backslash makes them ordinary. */
function patternOf(text: string): RegExp {
  const source = text.replace(/\\?[\s\S]/g, (part) => {
    if (part === "*" || part === "?") {
      return part === "*" ? "[\\s\\S]*" : "[\\s\\S]";
    }
    return (part.length === 2 ? part.slice(1) : part).replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  });
  return new RegExp(`^${source}$`);
}
