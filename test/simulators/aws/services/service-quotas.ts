/** Service Quotas: the account's quotas of Fargate and of network interfaces. */

import type { Context } from "../context.ts";
import { AwsFault, operations, type ServiceHandler } from "../wire/service.ts";

/** The simulated Service Quotas. */
export function serviceQuotasService(context: Context): ServiceHandler {
  const quotas: Readonly<Record<string, () => number>> = {
    "fargate/L-3032A538": () => context.quotas.fargateVcpus,
    "fargate/L-36FBB829": () => context.quotas.fargateSpotVcpus,
    "vpc/L-DF5E4CA3": () => context.quotas.networkInterfaces,
  };
  return {
    name: "service-quotas",
    codes: {
      invalid: "IllegalArgumentException",
      throttled: "TooManyRequestsException",
      denied: "AccessDeniedException",
      unknownKey: "UnrecognizedClientException",
    },
    operations: operations<typeof import("@aws-sdk/client-service-quotas")>({
      GetServiceQuota: {
        access: () => [{ action: "servicequotas:GetServiceQuota", resource: "*" }],
        run({ ServiceCode, QuotaCode }) {
          const value = quotas[`${ServiceCode}/${QuotaCode}`];
          if (value === undefined) {
            throw new AwsFault(
              "NoSuchResourceException",
              `There is no quota ${QuotaCode} of ${ServiceCode}.`,
            );
          }
          return { Quota: { ServiceCode, QuotaCode, Value: value(), Unit: "None", Adjustable: true } };
        },
      },
    }),
  };
}
