/** The commands, and the configuration of each call. */
import { Command } from "commander";

import {
  type Config,
  type ConfigSources,
  loadConfig,
  loadMetricsAddr,
  loadStateDir,
} from "../common/config/load.ts";
import type { BackendName } from "../common/config/schema.ts";
import type { Command as ConfiguredCommand } from "../common/config/settings.ts";
import { version } from "../common/version.ts";
import { addFlags, flagValues, settingsOfCommand } from "./flags.ts";

/** The program without its commands. */
export function newProgram(): Command {
  return new Command("sockerless")
    .description("The Docker Engine API without a Docker engine.")
    .version(version, "--version", "Print the version.")
    .helpCommand(false)
    .showHelpAfterError("See --help.");
}

/** Adds `serve` to a program. */
export function serveCommand(program: Command): Command {
  return configured(program.command("serve"), "serve")
    .description("Run a backend and a frontend: all that a Docker client needs.")
    .option("-d, --detach", "Run them in the background, and return once Docker clients are answered.");
}

/** Gives a command a flag for each of its settings. */
export function configured(command: Command, as: ConfiguredCommand, backendName?: BackendName): Command {
  addFlags(command, settingsOfCommand(as, backendName));
  return command;
}

/**
 * The configuration of a command's call; prints warnings on standard error.
 *
 * @throws SockerlessError of kind `invalid`
 */
export function configOf(command: Command, as: ConfiguredCommand, backendName?: BackendName): Config {
  const { config, warnings } = loadConfig(sourcesOf(command, as, backendName));
  warn(warnings);
  return config;
}

/**
 * The state directory of a command's call, read without the rest of the configuration.
 *
 * @throws SockerlessError of kind `invalid`
 */
export function stateDirOf(command: Command): string {
  const { stateDir, warnings } = loadStateDir(sourcesOf(command, "stop"));
  warn(warnings);
  return stateDir;
}

/**
 * The address of metrics of a command's call, read without the rest of the configuration.
 *
 * @throws SockerlessError of kind `invalid`
 */
export function metricsAddrOf(command: Command): string | undefined {
  const { metricsAddr, warnings } = loadMetricsAddr(sourcesOf(command, "healthcheck"));
  warn(warnings);
  return metricsAddr;
}

function sourcesOf(command: Command, as: ConfiguredCommand, backendName?: BackendName): ConfigSources {
  const { config: file, ...options } = command.opts<Record<string, unknown>>();
  return {
    command: as,
    ...(backendName === undefined ? {} : { backend: backendName }),
    ...(typeof file === "string" && file !== "" ? { file } : {}),
    flags: flagValues(options, settingsOfCommand(as, backendName)),
    environment: process.env,
    uid: process.geteuid?.() ?? 0,
  };
}

function warn(warnings: readonly string[]): void {
  for (const warning of warnings) {
    process.stderr.write(`sockerless: ${warning}\n`);
  }
}
