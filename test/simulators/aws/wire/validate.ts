/** Whether an input keeps the constraints of its service model. */
import { type ServiceModel, type Shape, type ShapeReference, shapeOf } from "./model.ts";

/**
 * The violations of a value, one sentence for each constraint that it breaks, in the words that AWS's services use.
 * Types have been checked when the value was decoded.
 */
export function violations(model: ServiceModel, reference: ShapeReference, value: unknown): string[] {
  const found: string[] = [];
  check(model, reference, value, "", found);
  return found;
}

function check(
  model: ServiceModel,
  reference: ShapeReference,
  value: unknown,
  path: string,
  found: string[],
): void {
  const shape = shapeOf(model, reference);
  const fail = (constraint: string): void => {
    found.push(
      `Value '${shown(value)}' at '${path}' failed to satisfy constraint: Member must ${constraint}`,
    );
  };
  switch (shape.type) {
    case "structure":
      checkStructure(model, shape, value as Record<string, unknown>, path, found);
      break;
    case "list": {
      const items = value as unknown[];
      checkSize(shape, items.length, "length", fail);
      if (reference.shape.startsWith("Tag")) {
        checkTags(items, fail);
      }
      for (const [index, item] of items.entries()) {
        if (shape.member !== undefined) {
          check(model, shape.member, item, `${path}.${index + 1}.member`, found);
        }
      }
      break;
    }
    case "map": {
      const entries = Object.entries(value as Record<string, unknown>);
      checkSize(shape, entries.length, "length", fail);
      for (const [key, item] of entries) {
        if (shape.key !== undefined && shape.value !== undefined) {
          check(model, shape.key, key, `${path}.${key}.key`, found);
          check(model, shape.value, item, `${path}.${key}.value`, found);
        }
      }
      break;
    }
    case "string":
      checkText(shape, value as string, fail);
      break;
    case "blob":
      checkSize(shape, (value as Uint8Array).length, "length", fail);
      break;
    case "integer":
    case "long":
    case "float":
    case "double":
      checkSize(shape, value as number, "value", fail);
      break;
    case "boolean":
    case "timestamp":
      break;
  }
}

function checkStructure(
  model: ServiceModel,
  { members = {}, required = [] }: Shape,
  value: Record<string, unknown>,
  path: string,
  found: string[],
): void {
  const below = (name: string): string => (path === "" ? lowerFirst(name) : `${path}.${lowerFirst(name)}`);
  for (const name of required) {
    if (value[name] === undefined) {
      found.push(`Value null at '${below(name)}' failed to satisfy constraint: Member must not be null`);
    }
  }
  for (const [name, inner] of Object.entries(value)) {
    const member = members[name];
    if (member !== undefined && inner !== undefined) {
      check(model, member, inner, below(name), found);
    }
  }
}

/** Refuses two tags with one key, as all services do although no model says so. */
function checkTags(items: readonly unknown[], fail: (constraint: string) => void): void {
  const keys = items.map((item) => {
    const { Key, key } = (item ?? {}) as { readonly Key?: unknown; readonly key?: unknown };
    return Key ?? key;
  });
  const given = keys.filter((key) => key !== undefined);
  if (new Set(given).size < given.length) {
    fail("not have two tags with the same key");
  }
}

function checkText(
  { enum: values, pattern, ...shape }: Shape,
  text: string,
  fail: (constraint: string) => void,
): void {
  if (values !== undefined && !values.includes(text)) {
    fail(`satisfy enum value set: [${values.join(", ")}]`);
  }
  checkSize(shape, [...text].length, "length", fail);
  if (pattern !== undefined && !wholly(pattern).test(text)) {
    fail(`satisfy regular expression pattern: ${pattern}`);
  }
}

function checkSize(
  { min, max }: Pick<Shape, "min" | "max">,
  size: number,
  what: "length" | "value",
  fail: (constraint: string) => void,
): void {
  if (min !== undefined && size < min) {
    fail(`have ${what} greater than or equal to ${min}`);
  }
  if (max !== undefined && size > max) {
    fail(`have ${what} less than or equal to ${max}`);
  }
}

const compiled = new Map<string, RegExp>();

/** AWS's patterns are Java's, for the whole text; not all of them are regular expressions in JavaScript's Unicode mode. */
function wholly(pattern: string): RegExp {
  let expression = compiled.get(pattern);
  if (expression === undefined) {
    try {
      expression = new RegExp(`^(?:${pattern})$`, "u");
    } catch {
      expression = new RegExp(`^(?:${pattern})$`);
    }
    compiled.set(pattern, expression);
  }
  return expression;
}

function shown(value: unknown): string {
  return typeof value === "string" || typeof value === "number" ? String(value) : JSON.stringify(value);
}

function lowerFirst(name: string): string {
  return name.charAt(0).toLowerCase() + name.slice(1);
}
