/** The flags of a command, generated from the settings. */
import { type Command as CommanderCommand, Option } from "commander";

import { type BackendName, backendNames } from "../common/config/schema.ts";
import { type Command, type Setting, settings } from "../common/config/settings.ts";

const groupTitles = {
  builder: "Builder:",
  image: "Images:",
  pool: "Prepared tasks:",
  ecs: "Backend ecs:",
  aca: "Backend aca:",
  kubernetes: "Backend kubernetes:",
} as const;

/** The settings that a command has as flags; for a named backend, without the sections of other backends. */
export function settingsOfCommand(command: Command, backend?: BackendName): Setting[] {
  return settings.filter(
    (setting) =>
      setting.commands.includes(command) && (backend === undefined || isOfBackend(setting.section, backend)),
  );
}

/** Whether the settings of a section mean something to a backend; undefined: those of no section. */
function isOfBackend(section: Setting["section"], backend: BackendName): boolean {
  if (section === "pool") {
    return backend !== "local"; // Tasks are what clouds have.
  }
  return section === backend || !backendNames.some((name) => name === section);
}

/** Adds `--config` and a flag for each setting. */
export function addFlags(command: CommanderCommand, of: readonly Setting[]): void {
  command.addOption(new Option("--config <file>", "YAML file with settings.").env("SOCKERLESS_CONFIG"));
  for (const setting of of) {
    const fallback = setting.defaultText ?? setting.defaultValue;
    const described =
      fallback === undefined ? setting.description : `${setting.description} Default: ${fallback}.`;
    const description = described.replaceAll("`", "");
    for (const option of optionsOf(setting, description)) {
      if (setting.section !== undefined) {
        option.helpGroup(groupTitles[setting.section]);
      }
      command.addOption(option);
    }
  }
}

/** The values of the flags given, by setting name. */
export function flagValues(
  options: Readonly<Record<string, unknown>>,
  of: readonly Setting[],
): Record<string, unknown> {
  const values: Record<string, unknown> = {};
  for (const setting of of) {
    const value = options[new Option(`--${setting.flag}`).attributeName()];
    if (value !== undefined) {
      values[setting.name] = value;
    }
  }
  return values;
}

function optionsOf(setting: Setting, description: string): Option[] {
  if (setting.isSwitch === true) {
    return [
      new Option(`--${setting.flag}`, description),
      new Option(`--no-${setting.flag}`, "The opposite.").hideHelp(),
    ];
  }
  const option = new Option(`--${setting.flag} <value>`, description);
  if (setting.isList === true) {
    option.argParser((value: string, before: string[] | undefined) => [
      ...(before ?? []),
      ...value.split(",").filter((item) => item !== ""),
    ]);
    option.description = `${description} May be repeated.`;
  }
  return [option];
}
