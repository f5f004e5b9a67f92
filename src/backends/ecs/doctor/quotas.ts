/** Checks of what the account has room for, against the containers that are expected. */
import { GetServiceQuotaCommand } from "@aws-sdk/client-service-quotas";

import { type Expectations, ok, type Result, warning } from "../../../common/finding.ts";
import { smallestSize } from "../definitions/sizes.ts";
import { vcpuQuotaCodes } from "../vcpu-quota.ts";
import type { Surroundings } from "./surroundings.ts";

const cpuUnits = 1024;
const networkInterfaces = { ServiceCode: "vpc", QuotaCode: "L-DF5E4CA3" } as const;

export async function checkVcpus(
  surroundings: Surroundings,
  { containers }: Expectations,
  signal: AbortSignal,
): Promise<Result> {
  const isSpot = surroundings.config.capacityProvider.endsWith("_SPOT");
  const QuotaCode = isSpot ? vcpuQuotaCodes.spot : vcpuQuotaCodes.onDemand;
  const vcpus = await quotaOf(surroundings, { ServiceCode: "fargate", QuotaCode }, signal);
  return compared(`${vcpus} vCPUs of ${isSpot ? "Fargate Spot" : "Fargate"}`, {
    room: Math.floor((vcpus * cpuUnits) / smallestSize.cpu),
    containers,
    remedy: `raise the quota ${QuotaCode} in Service Quotas`,
  });
}

export async function checkInterfaces(
  surroundings: Surroundings,
  { containers }: Expectations,
  signal: AbortSignal,
): Promise<Result> {
  const room = await quotaOf(surroundings, networkInterfaces, signal);
  const remedy = `raise the quota ${networkInterfaces.QuotaCode} in Service Quotas`;
  return compared(`${room} network interfaces in the region`, { room, containers, remedy });
}

export async function checkAddresses(
  { subnets }: Surroundings,
  { containers }: Expectations,
  signal: AbortSignal,
): Promise<Result> {
  const counts = (await subnets(signal)).map(({ AvailableIpAddressCount = 0 }) => AvailableIpAddressCount);
  const room = counts.reduce((sum, count) => sum + count, 0);
  const remedy = "name more or larger subnets in ecs.subnets";
  return compared(`${room} free addresses in ecs.subnets`, { room, containers, remedy });
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

/** @param room for how many containers of the smallest size */
function compared(
  what: string,
  {
    room,
    containers,
    remedy,
  }: { readonly room: number; readonly remedy: string } & Pick<Expectations, "containers">,
): Result {
  const text = `${what}: room for ${room} of the smallest containers`;
  return room >= containers ? ok(text) : warning(`${text}, not for ${containers}; ${remedy}`);
}
