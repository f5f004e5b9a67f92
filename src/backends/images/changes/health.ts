/** The HEALTHCHECK instruction. */
import { create } from "@bufbuild/protobuf";

import { invalid } from "../../../common/errors.ts";
import { parseDurationMs } from "../../../common/moments.ts";
import { type HealthConfig, HealthConfigSchema } from "../../../gen/sockerless/backend/v1/config_pb.ts";
import { parseCommandArguments } from "./arguments.ts";
import type { Instruction } from "./parse-lines.ts";

const durations = {
  "--interval": "interval",
  "--timeout": "timeout",
  "--start-period": "startPeriod",
  "--start-interval": "startInterval",
} as const;

/**
 * Parses the health check of an instruction.
 *
 * @throws SockerlessError of kind `invalid`
 */
export function parseHealthcheck(instruction: Instruction): HealthConfig {
  const [, kind = "", rest = ""] = /^(\S+)\s*([\s\S]*)$/.exec(instruction.rest) ?? [];
  if (kind === "") {
    throw invalid("HEALTHCHECK requires at least one argument");
  }
  switch (kind.toUpperCase()) {
    case "NONE":
      if (rest !== "") {
        throw invalid("HEALTHCHECK NONE takes no arguments");
      }
      if (instruction.flags.length > 0) {
        throw unknownFlag(instruction.flags[0] ?? "");
      }
      return create(HealthConfigSchema, { test: ["NONE"] });
    case "CMD":
      return create(HealthConfigSchema, { test: testOf(rest), ...settingsOf(instruction.flags) });
    default:
      throw invalid(`Unknown type ${JSON.stringify(kind.toUpperCase())} in HEALTHCHECK (try CMD)`);
  }
}

function testOf(rest: string): string[] {
  const command = parseCommandArguments(rest);
  if (command.form === "exec" ? command.values.length === 0 : command.text === "") {
    throw invalid("Missing command after HEALTHCHECK CMD");
  }
  return command.form === "exec" ? ["CMD", ...command.values] : ["CMD-SHELL", command.text];
}

function settingsOf(flags: readonly string[]): Partial<Omit<HealthConfig, "$typeName" | "$unknown">> {
  const settings: Partial<Record<(typeof durations)[keyof typeof durations], bigint>> & { retries?: number } =
    {};
  for (const flag of flags) {
    const equals = flag.indexOf("=");
    const name = equals < 0 ? flag : flag.slice(0, equals);
    const value = equals < 0 ? "" : flag.slice(equals + 1);
    if (Object.hasOwn(durations, name)) {
      settings[durations[name as keyof typeof durations]] = parseInterval(name, value);
    } else if (name === "--retries") {
      settings.retries = parseRetries(value);
    } else {
      throw unknownFlag(name);
    }
  }
  return settings;
}

/** Nanoseconds; 0 if not specified. */
function parseInterval(flag: string, value: string): bigint {
  if (value === "") {
    return 0n;
  }
  const ms = parseDurationMs(value);
  if (ms === undefined) {
    throw invalid(`time: invalid duration ${JSON.stringify(value)}`);
  }
  if (ms !== 0 && ms < 1) {
    throw invalid(`Interval ${JSON.stringify(flag.slice(2))} cannot be less than 1ms`);
  }
  return BigInt(Math.round(ms * 1e6));
}

function parseRetries(value: string): number {
  if (value === "") {
    return 0;
  }
  if (!/^[+-]?\d{1,9}$/.test(value)) {
    throw invalid(`strconv.ParseInt: parsing ${JSON.stringify(value)}: invalid syntax`);
  }
  if (Number(value) < 0) {
    throw invalid(`--retries cannot be negative (${Number(value)})`);
  }
  return Number(value);
}

function unknownFlag(flag: string): Error {
  return invalid(`unknown flag: ${flag.replace(/=.*/, "").slice(2)}`);
}
