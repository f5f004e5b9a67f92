/** What a new container's owner should know. Pure. */
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import { hasHealthcheck } from "../machine/health.ts";
import { configOf, hostConfigOf, resourcesOf } from "../records.ts";

/**
 * The warnings of a creation.
 *
 * @param runsHealthChecks whether the backend does
 * @param ownHealthcheck whether the user asked for the check, not the image
 */
export function warningsOf(
  record: ContainerRecord,
  runsHealthChecks: boolean,
  ownHealthcheck: boolean,
): readonly string[] {
  const hostConfig = hostConfigOf(record);
  const resources = resourcesOf(hostConfig);
  const warnings: string[] = [];
  if (hostConfig.networkMode === "host" && hostConfig.portBindings.length > 0) {
    warnings.push("Published ports are discarded when using host network mode");
  }
  if (resources.oomKillDisable === true && resources.memory === 0n) {
    warnings.push(
      "OOM killer is disabled for the container, but no memory limit is set, " +
        "this can result in the system running out of resources.",
    );
  }
  if (!runsHealthChecks && !ownHealthcheck && hasHealthcheck(configOf(record).healthcheck)) {
    warnings.push("The image's health check is not run by this backend");
  }
  return warnings;
}
