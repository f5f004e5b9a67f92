/** Values of the JSON protocols: read with their types checked, and written. */
import { type ServiceModel, type ShapeReference, shapeOf } from "./model.ts";
import { AwsFault } from "./service.ts";

/**
 * A JSON value as the model types it: `Date` for timestamps, `Uint8Array` for blobs. Null is absence.
 *
 * @throws AwsFault `SerializationException` for a value of another type, or a member that the model does not know
 */
export function readJson(model: ServiceModel, reference: ShapeReference, value: unknown): unknown {
  const shape = shapeOf(model, reference);
  switch (shape.type) {
    case "structure": {
      const result: Record<string, unknown> = {};
      for (const [name, inner] of Object.entries(objectOf(value))) {
        const member = memberOf(shape.members ?? {}, name);
        if (member === undefined) {
          throw unreadable(`unknown member ${name}`);
        }
        if (inner !== null) {
          result[member.name] = readJson(model, member.reference, inner);
        }
      }
      return result;
    }
    case "map": {
      const { value: each } = shape;
      return Object.fromEntries(
        Object.entries(objectOf(value)).map(([key, inner]) => [
          key,
          each === undefined ? inner : readJson(model, each, inner),
        ]),
      );
    }
    case "list": {
      const { member } = shape;
      if (!Array.isArray(value)) {
        throw unreadable("Expected list or null");
      }
      return value.map((item: unknown) => (member === undefined ? item : readJson(model, member, item)));
    }
    case "string":
      if (typeof value !== "string") {
        throw unreadable(`${typeName(value)} can not be converted to a String`);
      }
      return value;
    case "blob":
      if (typeof value !== "string") {
        throw unreadable(`${typeName(value)} can not be converted to a Blob`);
      }
      return new Uint8Array(Buffer.from(value, "base64"));
    case "boolean":
      if (typeof value !== "boolean") {
        throw unreadable(`${typeName(value)} can not be converted to a Boolean`);
      }
      return value;
    case "integer":
    case "long":
      if (typeof value !== "number" || !Number.isSafeInteger(value)) {
        throw unreadable(`${typeName(value)} can not be converted to an Integer`);
      }
      return value;
    case "float":
    case "double":
      if (typeof value !== "number") {
        throw unreadable(`${typeName(value)} can not be converted to a Double`);
      }
      return value;
    case "timestamp":
      if (typeof value !== "number") {
        throw unreadable(`${typeName(value)} can not be converted to milliseconds since epoch`);
      }
      return new Date(value * 1000);
  }
}

/**
 * A value as JSON has it; undefined members are left out.
 *
 * @throws Error for a member that the model does not have: a mistake in the simulator
 */
export function writeJson(model: ServiceModel, reference: ShapeReference, value: unknown): unknown {
  const shape = shapeOf(model, reference);
  switch (shape.type) {
    case "structure": {
      const result: Record<string, unknown> = {};
      for (const [name, inner] of Object.entries(value as Record<string, unknown>)) {
        const member = shape.members?.[name];
        if (member === undefined) {
          throw new Error(`${reference.shape} has no member ${name}`);
        }
        if (inner !== undefined && member.location === undefined) {
          result[member.locationName ?? name] = writeJson(model, member, inner);
        }
      }
      return result;
    }
    case "map": {
      const { value: each } = shape;
      return Object.fromEntries(
        Object.entries(value as Record<string, unknown>).map(([key, inner]) => [
          key,
          each === undefined ? inner : writeJson(model, each, inner),
        ]),
      );
    }
    case "list": {
      const { member } = shape;
      return (value as unknown[]).map((item) =>
        member === undefined ? item : writeJson(model, member, item),
      );
    }
    case "timestamp":
      return (value as Date).getTime() / 1000;
    case "blob":
      return Buffer.from(value as Uint8Array).toString("base64");
    case "string":
    case "boolean":
    case "integer":
    case "long":
    case "float":
    case "double":
      return value;
  }
}

/** A request that cannot be read. */
export function unreadable(message: string): AwsFault {
  return new AwsFault("SerializationException", message, 400);
}

function memberOf(
  members: Readonly<Record<string, ShapeReference>>,
  wireName: string,
): { readonly name: string; readonly reference: ShapeReference } | undefined {
  const found = Object.entries(members).find(([name, each]) => (each.locationName ?? name) === wireName);
  return found === undefined ? undefined : { name: found[0], reference: found[1] };
}

function objectOf(value: unknown): object {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw unreadable("Unexpected value type in payload");
  }
  return value;
}

function typeName(value: unknown): string {
  if (typeof value === "boolean") {
    return value ? "TRUE_VALUE" : "FALSE_VALUE";
  }
  if (Array.isArray(value)) {
    return "START_ARRAY";
  }
  return typeof value === "object" ? "START_OBJECT" : `${(typeof value).toUpperCase()}_VALUE`;
}
