/** Checks the account's quotas against the number of expected containers. */
import { GetServiceQuotaCommand } from "@aws-sdk/client-service-quotas";

import type { Expectations, Result } from "../../../common/finding.ts";
import { comparedWith } from "../../cloud/upkeep/room.ts";
import { smallestSize } from "../definitions/sizes.ts";
import { vcpuQuotaCodes } from "../vcpu-quota.ts";
import type { Surroundings } from "./surroundings.ts";

const cpuUnits = 1024;
const networkInterfaces = { ServiceCode: "vpc", QuotaCode: "L-DF5E4CA3" } as const;

export async function checkVcpus(
  surroundings: Surroundings,
  expected: Expectations,
  signal: AbortSignal,
): Promise<Result> {
  const isSpot = surroundings.config.capacityProvider.endsWith("_SPOT");
  const QuotaCode = isSpot ? vcpuQuotaCodes.spot : vcpuQuotaCodes.onDemand;
  const vcpus = await quotaOf(surroundings, { ServiceCode: "fargate", QuotaCode }, signal);
  return comparedWith(expected, `${vcpus} vCPUs of ${isSpot ? "Fargate Spot" : "Fargate"}`, {
    room: Math.floor((vcpus * cpuUnits) / smallestSize.cpu),
    remedy: `raise the quota ${QuotaCode} in Service Quotas`,
  });
}

export async function checkInterfaces(
  surroundings: Surroundings,
  expected: Expectations,
  signal: AbortSignal,
): Promise<Result> {
  const room = await quotaOf(surroundings, networkInterfaces, signal);
  const remedy = `raise the quota ${networkInterfaces.QuotaCode} in Service Quotas`;
  return comparedWith(expected, `${room} network interfaces in the region`, { room, remedy });
}

export async function checkAddresses(
  { subnets }: Surroundings,
  expected: Expectations,
  signal: AbortSignal,
): Promise<Result> {
  const counts = (await subnets(signal)).map(({ AvailableIpAddressCount = 0 }) => AvailableIpAddressCount);
  const room = counts.reduce((sum, count) => sum + count, 0);
  const remedy = "name more or larger subnets in ecs.subnets";
  return comparedWith(expected, `${room} free addresses in ecs.subnets`, { room, remedy });
}

/** @throws AwsError; Error: the quota has no value */
async function quotaOf(
  { aws }: Surroundings,
  quota: { readonly ServiceCode: string; readonly QuotaCode: string },
  abortSignal: AbortSignal,
): Promise<number> {
  const { Quota } = await aws.serviceQuotas.send(new GetServiceQuotaCommand(quota), { abortSignal });
  if (Quota?.Value === undefined) {
    throw new Error(`Service Quotas tells no value of ${quota.QuotaCode}`);
  }
  return Quota.Value;
}
