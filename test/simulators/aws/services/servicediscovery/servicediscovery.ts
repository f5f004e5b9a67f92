/** Cloud Map. Its private DNS answers nobody here: names are read by `DiscoverInstances` and `ListInstances`. */
import type { Context } from "../../context.ts";
import type { ServiceHandler } from "../../wire/service.ts";
import { instanceOperations } from "./instances.ts";
import { namespaceOperations } from "./namespaces.ts";
import { serviceOperations } from "./services.ts";
import type { Registry } from "./state.ts";

/** The simulated Cloud Map. */
export function serviceDiscoveryService(context: Context, registry: Registry, vpcId: string): ServiceHandler {
  return {
    name: "servicediscovery",
    codes: {
      invalid: "InvalidInput",
      throttled: "ThrottlingException",
      denied: "AccessDeniedException",
      unknownKey: "UnrecognizedClientException",
    },
    operations: {
      ...namespaceOperations(context, registry, vpcId),
      ...serviceOperations(context, registry),
      ...instanceOperations(context, registry),
    },
  };
}
