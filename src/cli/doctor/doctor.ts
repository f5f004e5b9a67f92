/** `sockerless doctor`: looks at what a first day needs. Each check is independent of the others. */
import { CloudError } from "../../backends/cloud/contract/cloud-error.ts";
import type { Config } from "../../common/config/load.ts";
import { messageOf, remedyOf } from "../../common/errors.ts";
import { processLogger } from "../../common/logger.ts";
import type { DoctorCheck, Finding } from "./finding.ts";
import { machineChecks } from "./machine.ts";

/** A cloud's checks, as its backend makes them at its start. */
interface CloudCheck {
  readonly what: string;
  run(signal: AbortSignal): Promise<string | undefined>;
}

/** Time for one check: calls of a cloud that is not reached are repeated, and end before. */
const limitMs = 120_000;

/** Runs the checks of the configured backend, all at once. */
export async function examine(config: Config): Promise<readonly Finding[]> {
  if (config.backend === "local") {
    return await findingsOf(machineChecks(config));
  }
  const cloud = await cloudChecks(config);
  try {
    return await findingsOf(cloud.checks.map(asCheck));
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
        // A refusal is the cloud's answer; whoever does not answer has told nothing.
        const isAnswer = error instanceof CloudError && error.outcome === "refused";
        return { check, status: isAnswer ? "wrong" : "unknown", text: remedyOf(error) ?? messageOf(error) };
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

function asCheck({ what, run }: CloudCheck): DoctorCheck {
  return {
    check: what,
    async look(signal) {
      const problem = await run(signal);
      return problem === undefined ? { status: "ok", text: "" } : { status: "wrong", text: problem };
    },
  };
}

async function cloudChecks(
  config: Exclude<Config, { readonly backend: "local" }>,
): Promise<{ readonly checks: readonly CloudCheck[]; close(): void }> {
  const logger = processLogger({ ...config, logLevel: "silent" }, "doctor");
  if (config.backend === "ecs") {
    return (await import("../../backends/ecs/doctor.ts")).doctorChecks(config, logger);
  }
  if (config.backend === "aca") {
    return (await import("../../backends/aca/doctor.ts")).doctorChecks(config, logger);
  }
  return (await import("../../backends/kubernetes/doctor.ts")).doctorChecks(config, logger);
}
