/** Commands, and the configuration that one is called with. */
import { Command } from "commander";

import { type Config, loadConfig } from "../common/config/load.ts";
import type { BackendName } from "../common/config/schema.ts";
import type { Command as ConfiguredCommand } from "../common/config/settings.ts";
import { version } from "../common/version.ts";
import { addFlags, flagValues, settingsOfCommand } from "./flags.ts";

/** The program, without its commands. */
export function newProgram(): Command {
  return new Command("sockerless")
    .description("The Docker Engine API without a Docker engine.")
    .version(version, "--version", "Print the version.")
    .helpCommand(false)
    .showHelpAfterError("See --help.");
}

/** Adds `serve` to a program. */
export function serveCommand(program: Command): Command {
  return configured(program.command("serve"), "serve").description(
    "Run a backend and a frontend: all that a Docker client needs.",
  );
}

/** Gives a command the flags of its settings. */
export function configured(command: Command, as: ConfiguredCommand, backendName?: BackendName): Command {
  addFlags(command, settingsOfCommand(as, backendName));
  return command;
}

/**
 * The configuration that a command is called with; what is worth a warning goes to standard error.
 *
 * @throws SockerlessError of kind `invalid`
 */
export function configOf(command: Command, as: ConfiguredCommand, backendName?: BackendName): Config {
  const { config: file, ...options } = command.opts<Record<string, unknown>>();
  const { config, warnings } = loadConfig({
    command: as,
    ...(backendName === undefined ? {} : { backend: backendName }),
    ...(typeof file === "string" && file !== "" ? { file } : {}),
    flags: flagValues(options, settingsOfCommand(as, backendName)),
    environment: process.env,
    uid: process.geteuid?.() ?? 0,
  });
  for (const warning of warnings) {
    process.stderr.write(`sockerless: ${warning}\n`);
  }
  return config;
}
