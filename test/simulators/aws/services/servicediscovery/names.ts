/** Answers of the private DNS zones of Cloud Map's namespaces. */
import type { Registry } from "./state.ts";

/** Route 53 answers eight records at most. */
const mostAnswers = 8;

/** The IPv4 addresses of a name, `service.namespace`; undefined for a name that there is not. */
export function addressesOf({ namespaces, services }: Registry, name: string): readonly string[] | undefined {
  const service = [...services.values()].find((each) => {
    const namespace = namespaces.get(each.namespaceId);
    return namespace !== undefined && `${each.name}.${namespace.name}`.toLowerCase() === name;
  });
  if (service === undefined || !service.records.some(({ Type }) => Type === "A")) {
    return undefined;
  }
  const addresses = [...service.instances.values()].flatMap(
    ({ attributes }) => attributes["AWS_INSTANCE_IPV4"] ?? [],
  );
  return addresses.length === 0 ? undefined : addresses.slice(0, mostAnswers);
}
