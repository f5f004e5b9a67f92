/**
 * The kinds of values that a setting may have. Each accepts what YAML gives and the text that a flag or an environment
 * variable gives, so that one schema serves all three; `typeName` is what the documentation says.
 */
import { resolve } from "node:path";

import { z } from "zod";

import { formatDuration, formatSize, parseDuration, parseSize } from "./units.ts";

/** Facts about a setting beside its schema. */
export interface SettingDescription {
  /** For the documentation and `--help`: one or two sentences. */
  readonly description: string;
  /** The kind of value, as the documentation names it. */
  readonly typeName: string;
  /** The flag's name where it is not the key's (`host` for `hosts`). */
  readonly flag?: string;
  /** Never shown in logs or errors. */
  readonly secret?: boolean;
  /** The default in words, where it depends on the machine or on other settings. */
  readonly defaultText?: string;
  /** Turns a default value into the text that would be written in a file. */
  readonly format?: (value: never) => string;
  /** A flag may be repeated, an environment variable holds several separated by commas. */
  readonly isList?: boolean;
  /** The flag stands alone, and `--no-…` negates it. */
  readonly isSwitch?: boolean;
}

/** Descriptions by schema; {@link describe} writes it. */
export const descriptions = z.registry<SettingDescription>();

/** A schema with its type name, not described yet. */
export interface Value<Schema extends z.ZodType> {
  readonly schema: Schema;
  readonly about: Omit<SettingDescription, "description">;
}

/** Optional facts about a setting besides its description. */
export type DescribeOptions = Pick<SettingDescription, "defaultText" | "flag" | "secret">;

/** Attaches a description to a value; the result goes into an object schema. */
export function describe<Schema extends z.ZodType>(
  value: Value<Schema>,
  description: string,
  options: DescribeOptions = {},
): Schema {
  if (descriptions.has(value.schema)) {
    throw new Error(`one schema cannot be two settings: ${description}`);
  }
  descriptions.add(value.schema, { ...value.about, ...options, description });
  return value.schema;
}

/** The same value, which may be left out. */
export function optional<Schema extends z.ZodType>(value: Value<Schema>): Value<z.ZodOptional<Schema>> {
  return { schema: value.schema.optional(), about: value.about };
}

/** The same value with a default for when it is left out (after parsing: milliseconds, bytes). */
export function withDefault<Output>(
  value: Value<z.ZodType<Output>>,
  fallback: NoInfer<Output>,
): Value<z.ZodType<Output>> {
  return { schema: value.schema.optional().transform((given) => given ?? fallback), about: value.about };
}

/** Text of at least one character. */
export function text(typeName = "text"): Value<z.ZodType<string>> {
  return { schema: z.string("must be text").min(1, "must not be empty"), about: { typeName } };
}

/** Text of a given form. */
export function matching(pattern: RegExp, typeName: string): Value<z.ZodType<string>> {
  return { schema: z.string("must be text").regex(pattern, `must be ${typeName}`), about: { typeName } };
}

/** One of several words. */
export function oneOf<const Word extends string>(...words: [Word, ...Word[]]): Value<z.ZodType<Word>> {
  const choices = words.map((word) => `\`${word}\``).join(", ");
  return {
    schema: z.enum(words, `must be one of ${words.join(", ")}`) as unknown as z.ZodType<Word>,
    about: { typeName: `one of ${choices}` },
  };
}

/** A list; text is split at commas. */
export function listOf<Item>(item: Value<z.ZodType<Item>>): Value<z.ZodType<Item[]>> {
  return {
    schema: z.preprocess(
      (given) => (typeof given === "string" ? splitAtCommas(given) : given),
      z.array(item.schema, "must be a list"),
    ),
    about: {
      typeName: `list of ${item.about.typeName}`,
      isList: true,
      format: (value: readonly Item[]) => (value.length === 0 ? "none" : value.join(",")),
    },
  };
}

/** Yes or no. */
export function onOff(): Value<z.ZodType<boolean>> {
  const words: Readonly<Record<string, boolean>> = { true: true, "1": true, false: false, "0": false };
  return {
    schema: z.preprocess(
      (given) => (typeof given === "string" ? (words[given.toLowerCase()] ?? given) : given),
      z.boolean("must be true or false"),
    ),
    about: { typeName: "`true` or `false`", isSwitch: true },
  };
}

/** A path of this machine, made absolute against the working directory. */
export function path(): Value<z.ZodType<string>> {
  return {
    schema: z
      .string("must be a path")
      .min(1, "must not be empty")
      .transform((given) => resolve(given)),
    about: { typeName: "path" },
  };
}

/** A time span; milliseconds after parsing. */
export function duration(): Value<z.ZodType<number>> {
  return {
    schema: parsedText(parseDuration, "must be a duration such as 500ms, 60s or 1m30s"),
    about: { typeName: "duration", format: formatDuration },
  };
}

/** A whole number from 1 on. */
export function count(): Value<z.ZodType<number>> {
  return {
    schema: parsedText(
      (given) => (/^[1-9]\d{0,8}$/.test(given) ? Number(given) : undefined),
      "must be a whole number from 1 on",
    ),
    about: { typeName: "number" },
  };
}

/** A number of bytes. */
export function size(): Value<z.ZodType<number>> {
  return {
    schema: parsedText(parseSize, "must be a size such as 64MiB or 1024"),
    about: { typeName: "size", format: formatSize },
  };
}

function parsedText(parse: (text: string) => number | undefined, message: string): z.ZodType<number> {
  return z.union([z.string(), z.number()], message).transform((given, context) => {
    const parsed = parse(String(given));
    if (parsed === undefined) {
      context.addIssue({ code: "custom", message });
      return z.NEVER;
    }
    return parsed;
  });
}

function splitAtCommas(given: string): string[] {
  return given
    .split(",")
    .map((item) => item.trim())
    .filter((item) => item !== "");
}
