/**
 * Schemas of documents that others write, by valibot, and what is told of a document that does not fit. Valibot's own
 * `object` takes arrays too and passes over keys that are left out, and its `record` leaves out `__proto__`.
 */
import * as v from "valibot";

import { ownValue } from "./own-value.ts";

/** A schema of any document. */
export type Schema<Output = unknown> = v.GenericSchema<unknown, Output>;

/** The first place of a document that does not fit its schema. */
export interface Misfit {
  /** Keys and indices with dots between, `layers.0.size`; empty: the whole document. */
  readonly place: string;
  readonly message: string;
}

/** A document as its schema gives it, or why it does not fit. */
export type Reading<Output> =
  | { readonly value: Output; readonly misfit?: never }
  | { readonly misfit: Misfit; readonly value?: never };

/** Reads a document, up to the first place that does not fit. */
export function read<Output>(schema: Schema<Output>, document: unknown): Reading<Output> {
  const result = v.safeParse(schema, document, { abortEarly: true, message: typeMessage });
  if (result.success) {
    return { value: result.output };
  }
  const [{ path = [], message }] = result.issues;
  return { misfit: { place: path.map(({ key }) => String(key)).join("."), message } };
}

/** The same of a document that must fit. @throws Error that names the first place which does not */
export function mustRead<Output>(schema: Schema<Output>, document: unknown): Output {
  const { value, misfit } = read(schema, document);
  if (misfit !== undefined) {
    throw new Error(misfit.place === "" ? misfit.message : `${misfit.place}: ${misfit.message}`);
  }
  return value;
}

/** An object of these keys; a schema is asked of its key also where that is left out. Other keys are dropped. */
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

/** A map with every key that the document has. */
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

/** At most so many of one kind; of more none is read. */
export function listOfAtMost<Item>(most: number, item: Schema<Item>): Schema<Item[]> {
  return v.pipe(
    v.array(v.unknown()),
    v.maxLength(most, `Too big: expected array to have <=${most} items`),
    v.array(item),
  );
}

/** A whole number that a double tells from its neighbours. */
export const wholeNumber = v.pipe(
  v.number(),
  v.finite(({ input }) => `Invalid input: expected number, received ${input}`),
  v.integer("Invalid input: expected int, received number"),
  v.minValue(Number.MIN_SAFE_INTEGER, `Too small: expected int to be >=${Number.MIN_SAFE_INTEGER}`),
  v.maxValue(Number.MAX_SAFE_INTEGER, `Too big: expected int to be <=${Number.MAX_SAFE_INTEGER}`),
);

/** Such a number that is not negative. */
export const size = v.pipe(wholeNumber, v.minValue(0, "Too small: expected number to be >=0"));

/** A moment since 1970: whole seconds, and nanoseconds of the next one. */
export const moment = v.strictTuple([wholeNumber, v.pipe(size, v.maxValue(999_999_999))]);

/** The same schema, or `undefined` for null and for what is left out, as Go reads JSON. */
export function orNothing<Output>(schema: Schema<Output>) {
  return v.pipe(
    v.nullish(schema),
    v.transform((value) => value ?? undefined),
  );
}

/** The message of a value of another type than its schema's. */
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

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
