/**
 * The types of setting values. Each accepts YAML values and the text of a flag or an environment variable, so that one
 * schema serves all three; `typeName` is its name in the documentation.
 */
import { resolve } from "node:path";

import * as v from "valibot";
import { parse as parseYaml } from "yaml";

import type { Schema } from "../documents.ts";
import { formatDuration, formatSize, parseDuration, parseSize } from "./units.ts";

/** Facts about a setting besides its schema. */
export interface SettingDescription {
  /** For the documentation and `--help`: one or two sentences. */
  readonly description: string;
  /** The type of value, as named in the documentation. */
  readonly typeName: string;
  /** The flag's name if it differs from the key (`host` for `hosts`). */
  readonly flag?: string;
  /** Never shown in logs or errors. */
  readonly secret?: boolean;
  /** The default in words, if it depends on the machine or on other settings. */
  readonly defaultText?: string;
  /** Formats a default value as it would be written in a file. */
  readonly format?: (value: never) => string;
  /** The flag may be repeated, and the environment variable holds a comma-separated list. */
  readonly isList?: boolean;
  /** The flag takes no value, and `--no-…` negates it. */
  readonly isSwitch?: boolean;
}

/** Descriptions by schema, filled by {@link describe}. */
export const descriptions = new WeakMap<Schema, SettingDescription>();

/** A schema with its type name, without a description yet. */
export interface Value<Kind extends Schema> {
  readonly schema: Kind;
  readonly about: Omit<SettingDescription, "description">;
}

/** Optional facts about a setting besides its description. */
export type DescribeOptions = Pick<SettingDescription, "defaultText" | "flag" | "secret">;

/** Attaches a description to a value; the result goes into an object schema. */
export function describe<Kind extends Schema>(
  value: Value<Kind>,
  description: string,
  options: DescribeOptions = {},
): Kind {
  if (descriptions.has(value.schema)) {
    throw new Error(`one schema cannot be two settings: ${description}`);
  }
  descriptions.set(value.schema, { ...value.about, ...options, description });
  return value.schema;
}

/** The same value, but optional. */
export function optional<Kind extends Schema>(value: Value<Kind>): Value<v.OptionalSchema<Kind, undefined>> {
  return { schema: v.optional(value.schema), about: value.about };
}

/** The same value with a default (in parsed form: milliseconds, bytes). */
export function withDefault<Output>(
  value: Value<Schema<Output>>,
  fallback: NoInfer<Output>,
): Value<Schema<Output>> {
  const schema = v.pipe(
    v.optional(value.schema),
    v.transform((given) => given ?? fallback),
  );
  return { schema, about: value.about };
}

/** Text of at least one character. */
export function text(typeName = "text"): Value<Schema<string>> {
  return { schema: v.pipe(v.string("must be text"), v.nonEmpty("must not be empty")), about: { typeName } };
}

/** Text that matches a pattern. */
export function matching(pattern: RegExp, typeName: string): Value<Schema<string>> {
  return {
    schema: v.pipe(v.string("must be text"), v.regex(pattern, `must be ${typeName}`)),
    about: { typeName },
  };
}

/** One of several words. */
export function oneOf<const Word extends string>(...words: [Word, ...Word[]]): Value<Schema<Word>> {
  const choices = words.map((word) => `\`${word}\``).join(", ");
  return {
    schema: v.picklist(words, `must be one of ${words.join(", ")}`),
    about: { typeName: `one of ${choices}` },
  };
}

/** A list; text is split at commas. */
export function listOf<Item>(item: Value<Schema<Item>>): Value<Schema<Item[]>> {
  return {
    schema: v.pipe(
      v.unknown(),
      v.transform((given) => (typeof given === "string" ? splitAtCommas(given) : given)),
      v.array(item.schema, "must be a list"),
    ),
    about: {
      typeName: `list of ${item.about.typeName}`,
      isList: true,
      format: (value: readonly Item[]) => (value.length === 0 ? "none" : value.join(",")),
    },
  };
}

/** Yes or no. */
export function onOff(): Value<Schema<boolean>> {
  const words: Readonly<Record<string, boolean>> = { true: true, "1": true, false: false, "0": false };
  return {
    schema: v.pipe(
      v.unknown(),
      v.transform((given) => (typeof given === "string" ? (words[given.toLowerCase()] ?? given) : given)),
      v.boolean("must be true or false"),
    ),
    about: { typeName: "`true` or `false`", isSwitch: true },
  };
}

/** A mapping of keys to values; text is YAML, or JSON. */
export function mapping(): Value<Schema<Record<string, unknown>>> {
  const isMapping = (given: unknown): given is Record<string, unknown> =>
    typeof given === "object" && given !== null && !Array.isArray(given);
  return {
    schema: v.pipe(
      v.unknown(),
      v.transform((given) => (typeof given === "string" ? yamlIn(given) : given)),
      v.custom<Record<string, unknown>>(isMapping, "must be a mapping of keys to values"),
    ),
    about: { typeName: "mapping, or its text in YAML or JSON" },
  };
}

/** @returns undefined: it is no YAML */
function yamlIn(text: string): unknown {
  try {
    return parseYaml(text);
  } catch {
    return undefined;
  }
}

/** A path on this machine, made absolute against the working directory. */
export function path(): Value<Schema<string>> {
  return {
    schema: v.pipe(
      v.string("must be a path"),
      v.nonEmpty("must not be empty"),
      v.transform((given) => resolve(given)),
    ),
    about: { typeName: "path" },
  };
}

/** A duration; milliseconds after parsing. */
export function duration(): Value<Schema<number>> {
  return {
    schema: parsedText(parseDuration, "must be a duration such as 500ms, 60s or 1m30s"),
    about: { typeName: "duration", format: formatDuration },
  };
}

/** A whole number of at least 1. */
export function count(): Value<Schema<number>> {
  return {
    schema: parsedText(
      (given) => (/^[1-9]\d{0,8}$/.test(given) ? Number(given) : undefined),
      "must be a whole number from 1 on",
    ),
    about: { typeName: "number" },
  };
}

/** A number that is not negative: of hours, of money. */
export function amount(): Value<Schema<number>> {
  return {
    schema: parsedText(
      (given) => (/^\d{1,9}(\.\d{1,6})?$/.test(given) ? Number(given) : undefined),
      "must be a number such as 12 or 0.5",
    ),
    about: { typeName: "number" },
  };
}

/** A number of bytes. */
export function size(): Value<Schema<number>> {
  return {
    schema: parsedText(parseSize, "must be a size such as 64MiB or 1024"),
    about: { typeName: "size", format: formatSize },
  };
}

function parsedText(parse: (text: string) => number | undefined, message: string): Schema<number> {
  return v.pipe(
    v.union([v.string(), v.number()], message),
    v.transform((given) => parse(String(given))),
    v.number(message),
  );
}

function splitAtCommas(given: string): string[] {
  return given
    .split(",")
    .map((item) => item.trim())
    .filter((item) => item !== "");
}
