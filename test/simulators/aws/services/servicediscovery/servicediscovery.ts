/** Cloud Map. Its private DNS answers nobody here: names are read by `ListInstances`. */
import type { Context } from "../../context.ts";
import type { ServiceHandler } from "../../wire/service.ts";
import { instanceOperations } from "./instances.ts";
import { serviceOperations } from "./services.ts";
import type { Registry } from "./state.ts";

/** The simulated Cloud Map. */
export function serviceDiscoveryService(context: Context, registry: Registry): ServiceHandler {
  return {
    name: "servicediscovery",
    codes: {
      invalid: "InvalidInput",
      throttled: "ThrottlingException",
      denied: "AccessDeniedException",
      unknownKey: "UnrecognizedClientException",
    },
    operations: {
      ...serviceOperations(context, registry),
      ...instanceOperations(registry),
    },
  };
}
