/** Warnings for the owner of a new container. Pure. */
import type { ContainerRecord } from "../../../../../gen/sockerless/state/v1/state_pb.ts";
import { hasHealthcheck } from "../life/health.ts";
import { configOf, hostConfigOf } from "../../../../model/records.ts";

/**
 * The warnings of a creation, except those about limits.
 *
 * @param runsHealthChecks whether the backend runs health checks
 * @param ownHealthcheck whether the check comes from the user, not the image
 */
export function warningsOf(
  record: ContainerRecord,
  runsHealthChecks: boolean,
  ownHealthcheck: boolean,
): readonly string[] {
  const hostConfig = hostConfigOf(record);
  const warnings: string[] = [];
  if (hostConfig.networkMode === "host" && hostConfig.portBindings.length > 0) {
    warnings.push("Published ports are discarded when using host network mode");
  }
  if (!runsHealthChecks && !ownHealthcheck && hasHealthcheck(configOf(record).healthcheck)) {
    warnings.push("The image's health check is not run by this backend");
  }
  return warnings;
}
