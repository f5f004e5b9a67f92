/** Reports settings that a backend accepts but does not apply. */
import type { ContainerRecord } from "../../../../gen/sockerless/state/v1/state_pb.ts";
import type { UnappliedSetting } from "../../../driver/settings.ts";
import type { EngineContext } from "../../context.ts";

/**
 * Logs the settings of a container that the driver does not apply.
 *
 * @returns warnings for the user
 */
export function logUnapplied(
  { driver, logger }: Pick<EngineContext, "driver" | "logger">,
  record: ContainerRecord,
): readonly string[] {
  const warnings = driver.settings.notApplied(record).map((setting) => warningOf(driver.name, setting));
  for (const warning of warnings) {
    logger.warn({ container: record.id }, warning);
  }
  return warnings;
}

function warningOf(backend: string, { name, why }: UnappliedSetting): string {
  return `the ${backend} backend does not apply ${name}: ${why}`;
}
