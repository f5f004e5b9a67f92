/** Checks of the cluster, made when the backend starts. */
import type { Logger } from "../../common/logger.ts";
import type { StartCheck } from "../cloud/contract/platform.ts";
import type { KubernetesClient } from "./api/client.ts";
import { isMissing } from "./api/errors.ts";

/** The least rights of a role: all that this backend does with pods. */
const podRights: readonly { readonly verb: string; readonly subresource?: string }[] = [
  ...["create", "delete", "get", "list", "watch"].map((verb) => ({ verb })),
  { verb: "create", subresource: "portforward" },
];

/** The checks of the namespace, and of this backend's rights there. */
export function kubernetesChecks(client: KubernetesClient, logger: Logger): readonly StartCheck[] {
  const { namespace } = client;
  return [
    {
      what: "the namespace",
      async run(signal) {
        logger.info(`Kubernetes at ${client.server}, namespace ${namespace}`);
        try {
          await client.call(
            "list pods",
            (options) => client.core.listNamespacedPod({ namespace, limit: 1 }, options),
            signal,
          );
          return undefined;
        } catch (error) {
          if (isMissing(error)) {
            return `there is no namespace ${namespace}: no container will start`;
          }
          throw error;
        }
      },
    },
    {
      what: "the rights in the namespace",
      async run(signal) {
        const missing: string[] = [];
        for (const { verb, subresource } of podRights) {
          if (!(await client.may({ verb, resource: "pods", subresource }, signal))) {
            missing.push(subresource === undefined ? `${verb} pods` : `${verb} pods/${subresource}`);
          }
        }
        return missing.length === 0
          ? undefined
          : `this backend may not ${missing.join(", ")} in namespace ${namespace}: containers will not work`;
      },
    },
  ];
}
