/** The settings as a flat list, with their names in the file, in the environment and on the command line. */
import * as v from "valibot";

import type { Schema } from "../documents.ts";
import {
  acaSchema,
  builderSchema,
  ecsSchema,
  imageSchema,
  kubernetesSchema,
  poolSchema,
  topSchema,
} from "./schema.ts";
import { descriptions, type SettingDescription } from "./values.ts";

/** The commands that read a configuration. */
export type Command = "serve" | "frontend" | "backend" | "stop" | "healthcheck";

/** The sections of the YAML file. */
export const sectionNames = ["builder", "image", "pool", "ecs", "aca", "kubernetes"] as const;
/** One of {@link sectionNames}. */
export type SectionName = (typeof sectionNames)[number];

/** One setting. */
export interface Setting extends SettingDescription {
  /** The section of the YAML file; undefined at its top. */
  readonly section: SectionName | undefined;
  /** The key within the section. */
  readonly key: string;
  /** The key with its section, `ecs.cluster`. */
  readonly name: string;
  /** The flag without dashes, `ecs-cluster`. */
  readonly flag: string;
  /** The environment variable, `SOCKERLESS_ECS_CLUSTER`. */
  readonly variable: string;
  /** Commands that have the flag. */
  readonly commands: readonly Command[];
  readonly schema: Schema;
  /** True if the section requires it. */
  readonly required: boolean;
  /** Default value in the flag's format; `defaultText` if it depends on the machine. */
  readonly defaultValue: string | undefined;
}

const commandsOfKey: Readonly<Record<string, readonly Command[]>> = {
  backend: ["serve", "stop"],
  hosts: ["serve", "frontend"],
  backend_address: ["frontend"],
  publish: ["serve", "frontend"],
  listen: ["serve", "backend"],
  state_dir: ["serve", "backend", "stop"],
  run_dir: ["serve", "backend"],
  log_file: ["serve"],
  metrics_addr: ["serve", "frontend", "backend", "healthcheck"],
  metrics_containers: ["serve", "frontend"],
  runtime: ["serve", "backend"],
  block_volume_size: ["serve", "backend"],
  insecure_registries: ["serve", "backend"],
};
/** Commands that have every setting not listed in the table above. */
const servingCommands: readonly Command[] = ["serve", "frontend", "backend"];

/** Every setting, in the order of the documentation. */
export const settings: readonly Setting[] = [
  ...settingsOf(topSchema, undefined),
  ...settingsOf(builderSchema, "builder"),
  ...settingsOf(imageSchema, "image"),
  ...settingsOf(poolSchema, "pool"),
  ...settingsOf(ecsSchema, "ecs"),
  ...settingsOf(acaSchema, "aca"),
  ...settingsOf(kubernetesSchema, "kubernetes"),
];

function settingsOf(
  schema: { readonly entries: Readonly<Record<string, Schema>> },
  section: Setting["section"],
): Setting[] {
  const found: Setting[] = [];
  for (const [key, described] of Object.entries(schema.entries)) {
    const description = descriptions.get(described);
    if (description === undefined) {
      throw new Error(`a setting is not described: ${key}`);
    }
    const name = section === undefined ? key : `${section}.${key}`;
    const withoutValue = v.safeParse(described, undefined);
    found.push({
      ...description,
      section,
      key,
      name,
      flag: description.flag ?? name.replaceAll(/[._]/g, "-"),
      variable: `SOCKERLESS_${name.replace(".", "_").toUpperCase()}`,
      commands: commandsOf(section, key),
      schema: described,
      required: !withoutValue.success,
      defaultValue: withoutValue.success ? defaultOf(withoutValue.output, description) : undefined,
    });
  }
  return found;
}

function commandsOf(section: Setting["section"], key: string): readonly Command[] {
  if (section === undefined) {
    return commandsOfKey[key] ?? servingCommands;
  }
  return section === "builder" ? ["serve"] : ["serve", "backend"];
}

function defaultOf(value: unknown, { format = String }: SettingDescription): string | undefined {
  return value === undefined ? undefined : (format as (value: unknown) => string)(value);
}
