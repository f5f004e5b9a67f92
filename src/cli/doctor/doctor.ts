/** `sockerless doctor`: looks at what a first day needs. Each check is independent of the others. */
import type { Config } from "../../common/config/load.ts";
import { invalid, messageOf, remedyOf } from "../../common/errors.ts";
import { type DoctorCheck, type Expectations, type Finding, unknown } from "../../common/finding.ts";
import { processLogger } from "../../common/logger.ts";
import { machineChecks } from "./machine.ts";

/** Time for one check: calls of a cloud that is not reached are repeated, and end before. */
const limitMs = 120_000;

/** The backend whose containers are such. */
const backendWith = { pod: "kubernetes", job: "aca" } as const;

/** Runs the checks of the configured backend, all at once. */
export async function examine(config: Config, expected: Expectations): Promise<readonly Finding[]> {
  const { starts } = expected;
  if (starts !== undefined && config.backend !== backendWith[starts]) {
    throw invalid(`--start-${starts} is for ${backendWith[starts]}: ${config.backend} has no ${starts}s`);
  }
  if (config.backend === "local") {
    return await findingsOf(machineChecks(config));
  }
  const cloud = await cloudChecks(config, expected);
  try {
    return await findingsOf(cloud.checks);
  } finally {
    cloud.close();
  }
}

/** @returns findings in the order of the checks */
export async function findingsOf(checks: readonly DoctorCheck[]): Promise<readonly Finding[]> {
  return await Promise.all(
    checks.map(async ({ check, look }) => {
      try {
        return { check, ...(await look(AbortSignal.timeout(limitMs))) };
      } catch (error) {
        return { check, ...unknown(remedyOf(error) ?? messageOf(error)) };
      }
    }),
  );
}

/** True if nothing is wrong; warnings and what is not known are for people to judge. */
export function isHealthy(findings: readonly Finding[]): boolean {
  return findings.every(({ status }) => status !== "wrong");
}

/** Lines for a terminal. */
export function findingsTable(findings: readonly Finding[]): string[] {
  const width = Math.max(...findings.map(({ check }) => check.length));
  return findings.map(({ check, status, text }) => `${status.padEnd(8)} ${check.padEnd(width)}  ${text}`);
}

async function cloudChecks(
  config: Exclude<Config, { readonly backend: "local" }>,
  expected: Expectations,
): Promise<{ readonly checks: readonly DoctorCheck[]; close(): void }> {
  const logger = processLogger({ ...config, logLevel: "silent" }, "doctor");
  if (config.backend === "ecs") {
    return (await import("../../backends/ecs/doctor/doctor.ts")).doctorChecks(config, logger, expected);
  }
  if (config.backend === "aca") {
    return (await import("../../backends/aca/doctor/doctor.ts")).doctorChecks(config, logger, expected);
  }
  return (await import("../../backends/kubernetes/doctor/doctor.ts")).doctorChecks(config, logger, expected);
}
