/**
 * Schemas (valibot) for documents from elsewhere, and errors for documents that do not match. Valibot's own `object`
 * accepts arrays and skips missing keys, and its `record` drops `__proto__`.
 */
import * as v from "valibot";

import { ownValue } from "./own-value.ts";

/** A schema of any document. */
export type Schema<Output = unknown> = v.GenericSchema<unknown, Output>;

/** The first mismatch between a document and its schema. */
export interface Misfit {
  /** Path of keys and indices, `layers.0.size`; empty for the whole document. */
  readonly place: string;
  readonly message: string;
}

/** The parsed document, or its first mismatch. */
export type Reading<Output> =
  | { readonly value: Output; readonly misfit?: never }
  | { readonly misfit: Misfit; readonly value?: never };

/** Parses a document; stops at the first mismatch. */
export function read<Output>(schema: Schema<Output>, document: unknown): Reading<Output> {
  const result = v.safeParse(schema, document, { abortEarly: true, message: typeMessage });
  if (result.success) {
    return { value: result.output };
  }
  const [{ path = [], message }] = result.issues;
  return { misfit: { place: path.map(({ key }) => String(key)).join("."), message } };
}

/** Parses a document that must match. @throws Error with the path of the first mismatch */
export function mustRead<Output>(schema: Schema<Output>, document: unknown): Output {
  const { value, misfit } = read(schema, document);
  if (misfit !== undefined) {
    throw new Error(misfit.place === "" ? misfit.message : `${misfit.place}: ${misfit.message}`);
  }
  return value;
}

/** An object with these keys; a key's schema also runs if the key is missing. Other keys are dropped. */
export function object<const Entries extends v.ObjectEntries>(
  entries: Entries,
): v.ObjectSchema<Entries, undefined> {
  const schema = v.object(entries);
  return {
    ...schema,
    "~run"(dataset, config) {
      const checked = anyMap["~run"](dataset, config);
      if (!checked.typed) {
        return checked as unknown as v.FailureDataset<v.ObjectIssue>;
      }
      const { value: given } = checked;
      const keys = Object.keys(this.entries);
      const whole = Object.fromEntries(keys.map((key) => [key, ownValue(given, key)]));
      const outcome = schema["~run"].call(this, { value: whole }, config);
      const found = Object.entries(outcome.value as object);
      const kept = found.filter(([key, value]) => value !== undefined || Object.hasOwn(given, key));
      return { ...outcome, value: Object.fromEntries(kept) } as typeof outcome;
    },
  };
}

const anyMap = v.custom<Record<string, unknown>>(isMap, ({ input }) => expectedText("object", input));

/** A map that keeps all keys of the document. */
export function openMap<Value>(schema: Schema<Value>): Schema<Record<string, Value>> {
  return v.pipe(
    v.custom<Record<string, unknown>>(isMap, "Invalid input: expected record"),
    v.rawTransform(({ dataset: { value: input }, addIssue, NEVER }) => {
      const entries: [string, Value][] = [];
      for (const [key, given] of Object.entries(input)) {
        const { value, misfit } = read(schema, given);
        if (misfit !== undefined) {
          addIssue({
            message: misfit.message,
            path: [{ type: "object", origin: "value", input, key, value: given }],
          });
          return NEVER;
        }
        entries.push([key, value]);
      }
      return Object.fromEntries(entries);
    }),
  );
}

/** A list with at most this many items; a longer one is rejected before its items are parsed. */
export function listOfAtMost<Item>(most: number, item: Schema<Item>): Schema<Item[]> {
  return v.pipe(
    v.array(v.unknown()),
    v.maxLength(most, `Too big: expected array to have <=${most} items`),
    v.array(item),
  );
}

/** A whole number that a double represents exactly. */
export const wholeNumber = v.pipe(
  v.number(),
  v.finite(({ input }) => `Invalid input: expected number, received ${input}`),
  v.integer("Invalid input: expected int, received number"),
  v.minValue(Number.MIN_SAFE_INTEGER, `Too small: expected int to be >=${Number.MIN_SAFE_INTEGER}`),
  v.maxValue(Number.MAX_SAFE_INTEGER, `Too big: expected int to be <=${Number.MAX_SAFE_INTEGER}`),
);

/** A whole number that is not negative. */
export const size = v.pipe(wholeNumber, v.minValue(0, "Too small: expected number to be >=0"));

/** A time as ISO 8601 writes it. */
export const timestamp = v.pipe(v.string(), v.isoTimestamp("Invalid ISO datetime"));

/** Time since 1970: whole seconds, and nanoseconds of the current second. */
export const moment = v.strictTuple([wholeNumber, v.pipe(size, v.maxValue(999_999_999))]);

/** The schema, with `undefined` for null and for a missing key, as Go decodes JSON. */
export function orUndefined<Output>(schema: Schema<Output>) {
  return v.pipe(
    v.nullish(schema),
    v.transform((value) => value ?? undefined),
  );
}

/** The message for a value of the wrong type. */
function typeMessage({ type, input, expected }: v.BaseIssue<unknown>): string {
  return type === "literal" ? `Invalid input: expected ${expected}` : expectedText(type, input);
}

function expectedText(type: string, given: unknown): string {
  return `Invalid input: expected ${type}, received ${typeName(given)}`;
}

function typeName(value: unknown): string {
  if (value === null) {
    return "null";
  }
  if (typeof value === "number" && !Number.isFinite(value)) {
    return String(value);
  }
  return Array.isArray(value) ? "array" : typeof value;
}

/** Whether a value has keys of its own, and is no list. */
export function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
