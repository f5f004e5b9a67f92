/**
 * Reading a client's JSON as Go's decoder reads it, because clients were written against that: keys match whatever
 * their case, `null` and a missing key are the zero value, unknown keys are ignored, and a value of the wrong type is
 * refused with the path of the field.
 */
import { invalid, type SockerlessError } from "../../common/errors.ts";
import { shortened } from "../../common/go-values.ts";
import { NonInteger } from "../http/json-body.ts";

const int32 = { min: -(2n ** 31n), max: 2n ** 31n - 1n, type: "int" } as const;
const int64 = { min: -(2n ** 63n), max: 2n ** 63n - 1n, type: "int64" } as const;
const uint16 = { min: 0n, max: 2n ** 16n - 1n, type: "uint16" } as const;
const uint32 = { min: 0n, max: 2n ** 32n - 1n, type: "uint32" } as const;
const uint64 = { min: 0n, max: 2n ** 64n - 1n, type: "uint64" } as const;

type IntegerRange = typeof int32 | typeof int64 | typeof uint16 | typeof uint32 | typeof uint64;

/** One JSON object, read field by field. */
export class JsonFields {
  readonly #values = new Map<string, unknown>();
  readonly #path: string;

  /**
   * @param value any parsed JSON
   * @param path the object's name in errors: a type's name, then the path of fields
   * @throws SockerlessError of kind `invalid` where the value is not an object
   */
  constructor(value: unknown, path: string) {
    this.#path = path;
    for (const [key, each] of Object.entries(objectOf(value, path, path))) {
      this.#values.set(key.toLowerCase(), each);
    }
  }

  /** True if the key is present and not `null`. */
  has(name: string): boolean {
    return this.#value(name) !== undefined;
  }

  /** A string; empty if missing. */
  string(name: string): string {
    const value = this.#value(name);
    return value === undefined ? "" : stringOf(value, this.#pathOf(name));
  }

  /** A boolean; false if missing. */
  boolean(name: string): boolean {
    return this.optionalBoolean(name) ?? false;
  }

  /** An optional boolean. */
  optionalBoolean(name: string): boolean | undefined {
    const value = this.#value(name);
    if (value !== undefined && typeof value !== "boolean") {
      throw wrongType(value, this.#pathOf(name), "bool");
    }
    return value;
  }

  /** A Go `int`, limited to 32 bits. */
  int32(name: string): number {
    return Number(this.#integer(name, int32) ?? 0n);
  }

  /** An optional Go `int`. */
  optionalInt32(name: string): number | undefined {
    const value = this.#integer(name, int32);
    return value === undefined ? undefined : Number(value);
  }

  /** A 64-bit integer; 0 if missing. */
  int64(name: string): bigint {
    return this.#integer(name, int64) ?? 0n;
  }

  /** An optional 64-bit integer. */
  optionalInt64(name: string): bigint | undefined {
    return this.#integer(name, int64);
  }

  /** An unsigned 16-bit integer. */
  uint16(name: string): number {
    return Number(this.#integer(name, uint16) ?? 0n);
  }

  /** An unsigned 32-bit integer. */
  uint32(name: string): number {
    return Number(this.#integer(name, uint32) ?? 0n);
  }

  /** An unsigned 64-bit integer. */
  uint64(name: string): bigint {
    return this.#integer(name, uint64) ?? 0n;
  }

  /** A list of strings; empty if missing. */
  strings(name: string): string[] {
    return this.optionalStrings(name) ?? [];
  }

  /** An optional list of strings. */
  optionalStrings(name: string): string[] | undefined {
    const path = this.#pathOf(name);
    return this.#list(name, "[]string")?.map((each) => (each === null ? "" : stringOf(each, path)));
  }

  /** A command: a list of strings, or a single string as a list of one. */
  command(name: string): string[] | undefined {
    const value = this.#value(name);
    if (Array.isArray(value)) {
      return this.optionalStrings(name);
    }
    return value === undefined ? undefined : [stringOf(value, this.#pathOf(name))];
  }

  /** A list of objects; a `null` element is one without members, Go's zero value. */
  objects(name: string): JsonFields[] {
    const path = this.#pathOf(name);
    return (this.#list(name, "[]object") ?? []).map((each) => new JsonFields(each ?? {}, path));
  }

  /** A list of lists of strings; a `null` list is empty. */
  stringLists(name: string): string[][] {
    const path = this.#pathOf(name);
    return (this.#list(name, "[][]string") ?? []).map((each) => {
      if (each !== null && !Array.isArray(each)) {
        throw wrongType(each, path, "[]string");
      }
      return (each ?? []).map((element: unknown) => (element === null ? "" : stringOf(element, path)));
    });
  }

  /** A fixed number of unsigned integers; missing ones are 0. */
  uint32s(name: string, count: number): number[] {
    const path = this.#pathOf(name);
    const values = this.#list(name, "[]uint") ?? [];
    return Array.from({ length: count }, (_, index) => Number(integerOf(values[index] ?? 0, path, uint32)));
  }

  /** An optional object. */
  object(name: string): JsonFields | undefined {
    const value = this.#value(name);
    return value === undefined ? undefined : new JsonFields(value, this.#pathOf(name));
  }

  /** An object whose keys are data, with strings as values. */
  stringMap(name: string): Record<string, string> {
    const path = this.#pathOf(name);
    return Object.fromEntries(
      this.entries(name, "map[string]string").map(([key, value]) => [
        key,
        value === null ? "" : stringOf(value, path),
      ]),
    );
  }

  /** The keys of an object that stands for a set: `{"80/tcp": {}}`. */
  keys(name: string): string[] {
    const path = this.#pathOf(name);
    return this.entries(name, "map[string]struct {}").map(([key, value]) => {
      if (value !== null) {
        objectOf(value, path, "struct {}");
      }
      return key;
    });
  }

  /** The entries of an object whose keys are data. */
  entries(name: string, type: string): [string, unknown][] {
    const value = this.#value(name);
    return value === undefined ? [] : Object.entries(objectOf(value, this.#pathOf(name), type));
  }

  /** A field's name in errors. */
  pathOf(name: string): string {
    return this.#pathOf(name);
  }

  #value(name: string): unknown {
    const value = this.#values.get(name.toLowerCase());
    return value === null ? undefined : value;
  }

  #pathOf(name: string): string {
    return `${this.#path}.${name}`;
  }

  #list(name: string, type: string): unknown[] | undefined {
    const value = this.#value(name);
    if (value !== undefined && !Array.isArray(value)) {
      throw wrongType(value, this.#pathOf(name), type);
    }
    return value;
  }

  #integer(name: string, range: IntegerRange): bigint | undefined {
    const value = this.#value(name);
    return value === undefined ? undefined : integerOf(value, this.#pathOf(name), range);
  }
}

/** A string, or the refusal. */
function stringOf(value: unknown, path: string): string {
  if (typeof value !== "string") {
    throw wrongType(value, path, "string");
  }
  return value;
}

function integerOf(value: unknown, path: string, range: IntegerRange): bigint {
  if (typeof value !== "bigint" && !Number.isSafeInteger(value)) {
    throw wrongType(value, path, range.type);
  }
  const integer = BigInt(value as number | bigint);
  if (integer < range.min || integer > range.max) {
    throw wrongType(value, path, range.type);
  }
  return integer;
}

function objectOf(value: unknown, path: string, type: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value) || value instanceof NonInteger) {
    throw wrongType(value, path, type);
  }
  return value as Record<string, unknown>;
}

function wrongType(value: unknown, path: string, type: string): SockerlessError {
  const wantsNumber = /^u?int\d*$/.test(type);
  const place = path.includes(".") ? `Go struct field ${path} of type ${type}` : `Go value of type ${type}`;
  return invalid(`invalid JSON: json: cannot unmarshal ${kindOf(value, wantsNumber)} into ${place}`);
}

/** The name of a value's type in errors of Go's decoder; a number that is no integer of the type is shown as written. */
function kindOf(value: unknown, wantsNumber: boolean): string {
  if (value instanceof NonInteger) {
    return wantsNumber ? `number ${shortened(value.source)}` : "number";
  }
  switch (typeof value) {
    case "string":
      return "string";
    case "boolean":
      return "bool";
    case "number":
    case "bigint":
      return wantsNumber ? `number ${value}` : "number";
    default:
      return Array.isArray(value) ? "array" : "object";
  }
}
