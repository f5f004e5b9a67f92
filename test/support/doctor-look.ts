/** A look of `sockerless doctor` in this process. */
import { examine, isHealthy } from "../../src/cli/doctor/doctor.ts";
import { loadConfig } from "../../src/common/config/load.ts";
import type { Expectations, Finding } from "../../src/common/finding.ts";

/** Statuses by check. */
export type Statuses = Readonly<Record<string, string>>;

/** Something that is broken in a cloud. */
export interface Breakage<Cloud> {
  /** Settings that name what is not there. */
  readonly flags?: Readonly<Record<string, unknown>>;
  /** Changes the cloud; answers how to undo it. */
  readonly change?: (cloud: Cloud) => () => void;
  readonly containers?: number;
  /** The lines that are not as before. */
  readonly lines: Statuses;
}

/** The findings of a look. */
export interface DoctorLook {
  readonly findings: readonly Finding[];
  readonly isWell: boolean;
  /** Statuses of the findings that are not ok. */
  readonly statuses: Statuses;
  /** Those findings as JSON, for messages of assertions. */
  readonly text: string;
}

/** Looks with the environment of this process. @param file the configuration */
export async function doctorLook(
  backend: "ecs" | "aca",
  file: string,
  flags: Readonly<Record<string, unknown>> = {},
  expected: Partial<Expectations> = {},
): Promise<DoctorLook> {
  const { config } = loadConfig({ command: "serve", backend, file, flags, environment: {}, uid: 0 });
  const findings = await examine(config, { containers: 1, starts: undefined, ...expected });
  const bad = findings.filter(({ status }) => status !== "ok");
  return {
    findings,
    isWell: isHealthy(findings),
    statuses: Object.fromEntries(bad.map(({ check, status }) => [check, status])),
    text: JSON.stringify(bad, undefined, 1),
  };
}
