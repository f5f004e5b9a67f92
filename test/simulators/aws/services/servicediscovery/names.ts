/** Answers of the private DNS zones of Cloud Map's namespaces. */
import type { Registry } from "./state.ts";

/** Route 53 answers eight records at most. */
const mostAnswers = 8;

/** The addresses of a name, `service.namespace`; undefined for a name that there is not. */
export function addressesOf({ namespaces, services }: Registry, name: string): readonly string[] | undefined {
  const service = [...services.values()].find((each) => {
    const namespace = namespaces.get(each.namespaceId);
    return namespace !== undefined && `${each.name}.${namespace.name}`.toLowerCase() === name;
  });
  const attributesOf = { A: "AWS_INSTANCE_IPV4", AAAA: "AWS_INSTANCE_IPV6" };
  const told = Object.entries(attributesOf).filter(([type]) =>
    service?.records.some(({ Type }) => Type === type),
  );
  if (service === undefined || told.length === 0) {
    return undefined;
  }
  const addresses = [...service.instances.values()].flatMap(({ attributes }) =>
    told.flatMap(([, name]) => attributes[name] ?? []),
  );
  return addresses.length === 0 ? undefined : addresses.slice(0, mostAnswers);
}
