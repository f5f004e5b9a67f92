/** Shapes of request bodies, and the differences between a body and its shape. */
import { readFileSync } from "node:fs";
import { join } from "node:path";

import { checkout } from "../../../support/daemon.ts";
import { enumerations, fractions, written } from "./facts.ts";

/** A shape. */
export type Schema =
  | {
      readonly kind: "string";
      readonly values?: readonly string[];
      readonly pattern?: RegExp;
      readonly lengths?: Range;
    }
  | { readonly kind: "number"; readonly whole: boolean; readonly range?: Range }
  | { readonly kind: "boolean" }
  | { readonly kind: "any" }
  | { readonly kind: "list"; readonly element: Schema }
  | { readonly kind: "map"; readonly value: Schema }
  | { readonly kind: "object"; readonly properties: Readonly<Record<string, Property>> };

/** The least and the most, both allowed. */
type Range = readonly [least: number, most: number];

/** A property of an object. */
export interface Property {
  readonly schema: Schema;
  readonly required?: boolean;
  /** Whether the service alone writes it: what a client sends there is not looked at. */
  readonly readOnly?: boolean;
}

interface Mapper {
  readonly serializedName?: string;
  readonly required?: boolean;
  readonly readOnly?: boolean;
  readonly type: {
    readonly name: string;
    readonly className?: string;
    readonly modelProperties?: Readonly<Record<string, Mapper>>;
    readonly element?: Mapper;
    readonly value?: Mapper;
  };
}

/** Reads the classes of a fixture; a property that the mappers flatten is nested again. */
export function loadSchemas(fixture: string): (className: string) => Schema {
  // Compiled code lies elsewhere than the models, which are data.
  const file = join(checkout, "test/simulators/azure/models/fixtures", `${fixture}.json`);
  const mappers = JSON.parse(readFileSync(file, "utf8")) as Readonly<Record<string, Mapper>>;
  const classes = new Map<string, Schema>();
  const objectOf = (className: string): Schema => {
    const known = classes.get(className);
    if (known !== undefined) {
      return known;
    }
    const properties: Record<string, Property> = {};
    const nested: Record<string, Property> = {};
    for (const mapper of Object.values(mappers[className]?.type.modelProperties ?? {})) {
      const name = mapper.serializedName ?? "";
      const [outer = "", inner] = name.split(".");
      const property: Property = {
        schema: schemaOf(mapper, `${className}.${inner ?? outer}`),
        required: mapper.required === true,
        readOnly: mapper.readOnly === true || written.has(`${className}.${name}`),
      };
      if (inner === undefined) {
        properties[outer] = property;
      } else {
        nested[inner] = property;
        properties[outer] = { schema: { kind: "object", properties: nested } };
      }
    }
    const schema: Schema = { kind: "object", properties };
    classes.set(className, schema);
    return schema;
  };
  const schemaOf = (mapper: Mapper, name: string): Schema => {
    const { type } = mapper;
    switch (type.name) {
      case "Composite":
        return objectOf(type.className ?? "");
      case "Sequence":
        return {
          kind: "list",
          element: type.element === undefined ? any : schemaOf(type.element, `${name}[]`),
        };
      case "Dictionary":
        return { kind: "map", value: type.value === undefined ? any : schemaOf(type.value, `${name}{}`) };
      case "Number":
        return { kind: "number", whole: !fractions.has(name) };
      case "Boolean":
        return { kind: "boolean" };
      case "any":
        return any;
      default: {
        const values = enumerations[name];
        return { kind: "string", ...(values !== undefined && { values }) };
      }
    }
  };
  return objectOf;
}

const any: Schema = { kind: "any" };

/** Every way in which a value is not of a shape, with the path of each. */
export function violations(schema: Schema, value: unknown, path = ""): string[] {
  const at = path === "" ? "the request body" : `'${path}'`;
  switch (schema.kind) {
    case "any":
      return [];
    case "boolean":
      return typeof value === "boolean" ? [] : [`${at} is no boolean`];
    case "string":
      return typeof value === "string" ? textViolations(schema, value, at) : [`${at} is no string`];
    case "number":
      return numberViolations(schema, value, at);
    case "list":
      return Array.isArray(value)
        ? value.flatMap((each, index) => violations(schema.element, each, `${path}[${index}]`))
        : [`${at} is no array`];
    case "map":
      return isObject(value)
        ? Object.entries(value).flatMap(([key, each]) => violations(schema.value, each, `${path}.${key}`))
        : [`${at} is no object`];
    case "object":
      return isObject(value) ? objectViolations(schema, value, path) : [`${at} is no object`];
  }
}

function objectViolations(
  { properties }: Extract<Schema, { kind: "object" }>,
  value: Readonly<Record<string, unknown>>,
  path: string,
): string[] {
  const inner = (name: string): string => (path === "" ? name : `${path}.${name}`);
  const unknown = Object.keys(value)
    .filter((name) => properties[name] === undefined)
    .map((name) => `Could not find member '${name}' on the object: path '${inner(name)}'`);
  const known = Object.entries(properties).flatMap(([name, { schema, required, readOnly }]) => {
    const member = value[name];
    if (member === undefined || member === null) {
      return required === true ? [`Required property '${inner(name)}' is missing`] : [];
    }
    return readOnly === true ? [] : violations(schema, member, inner(name));
  });
  return [...unknown, ...known];
}

function textViolations(
  { values, pattern, lengths }: Extract<Schema, { kind: "string" }>,
  value: string,
  at: string,
): string[] {
  return [
    ...(values === undefined || values.includes(value)
      ? []
      : [`${at} has the value '${value}', and not one of: ${values.join(", ")}`]),
    ...(pattern === undefined || pattern.test(value) ? [] : [`${at} does not match ${pattern.source}`]),
    ...(lengths === undefined || (value.length >= lengths[0] && value.length <= lengths[1])
      ? []
      : [`${at} has not ${lengths.join(" to ")} characters`]),
  ];
}

function numberViolations(
  { whole, range }: Extract<Schema, { kind: "number" }>,
  value: unknown,
  at: string,
): string[] {
  if (typeof value !== "number" || (whole && !Number.isInteger(value)) || Math.abs(value) > 0x7fffffff) {
    return [`${at} is no ${whole ? "int32" : "number"}`];
  }
  return range === undefined || (value >= range[0] && value <= range[1])
    ? []
    : [`${at} is not between ${range.join(" and ")}`];
}

/** Whether a value of JSON is an object. */
export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
