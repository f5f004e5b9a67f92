/**
 * Checks responses against the Engine API's own description: moby v28's `api/swagger.yaml`, which lies in the Go module
 * that the Go client tests use.
 *
 * The document is Swagger 2 and describes what Go's marshaller writes, so it is adapted: a list or a map may be null
 * (Go's nil), `x-nullable` too, and a field that the description does not know is an error, so that a misspelt key is
 * found.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";

import { Ajv, type ValidateFunction } from "ajv";
import { parse } from "yaml";

const mobyModule = "github.com/docker/docker@v28.5.2+incompatible";

type Schema = Record<string, unknown>;

interface SwaggerDocument {
  readonly definitions: Record<string, Schema>;
  readonly paths: Record<
    string,
    Record<string, { readonly responses: Record<string, { readonly schema?: Schema }> }>
  >;
}

/** Exceptions from the description that a response is checked by. */
export interface SwaggerOptions {
  /**
   * Fields at the top of the body that the description does not have: those of older API versions, and those that
   * dockerd writes and the description forgot.
   */
  readonly undescribed?: readonly string[];
}

let document: SwaggerDocument | undefined;
const validators = new Map<string, ValidateFunction>();

/**
 * Fails unless a response's body is one that the description allows.
 *
 * @param path as in the description: `/containers/{id}/json`
 * @param body parsed JSON
 */
export function assertDescribed(
  method: "get" | "post" | "put" | "delete" | "head",
  path: string,
  status: number,
  body: unknown,
  options: SwaggerOptions = {},
): void {
  const validate = validatorOf(method, path, status);
  const described = withoutKeys(body, options.undescribed ?? []);
  if (!validate(described)) {
    const problems = (validate.errors ?? []).map(
      ({ instancePath, message, params }) =>
        `${instancePath || "the body"} ${message} ${JSON.stringify(params)}`,
    );
    assert.fail(`${method} ${path} ${status} is not as described:\n  ${problems.join("\n  ")}`);
  }
}

/**
 * Paths of the fields of one of the description's definitions, nested ones too, that no value has:
 * `Mounts.VolumeOptions.Subpath`. Elements of lists and values of maps are looked into without a name of their own.
 *
 * @param values those of each field at the top
 */
export function unaskedFields(
  definition: string,
  values: Readonly<Record<string, readonly unknown[]>>,
): string[] {
  const schema = definitionOf(definition);
  return Object.entries(fieldsOf(schema)).flatMap(([name, field]) =>
    values[name] === undefined ? [name] : unaskedWithin(field, values[name], name),
  );
}

function unaskedWithin(given: Schema, values: readonly unknown[], path: string): string[] {
  const schema = typeof given["$ref"] === "string" ? definitionOf(given["$ref"]) : given;
  const objects = values.filter((value) => typeof value === "object" && value !== null);
  const inner = schema["items"] ?? schema["additionalProperties"];
  if (typeof inner === "object") {
    return unaskedWithin(inner as Schema, objects.flatMap(Object.values), path);
  }
  return Object.entries(fieldsOf(schema)).flatMap(([name, field]) => {
    const told = objects.map((object) => (object as Schema)[name]).filter((value) => value !== undefined);
    const own = `${path}.${name}`;
    return told.length === 0 ? [own] : unaskedWithin(field, told, own);
  });
}

function definitionOf(name: string): Schema {
  document ??= readDocument();
  const schema = document.definitions[name.replace("#/definitions/", "")];
  assert.ok(schema !== undefined, `the description has no ${name}`);
  return schema;
}

function fieldsOf(schema: Schema): Record<string, Schema> {
  const { properties = {} } = Array.isArray(schema["allOf"]) ? merged(schema) : schema;
  return properties as Record<string, Schema>;
}

function validatorOf(method: string, path: string, status: number): ValidateFunction {
  const key = `${method} ${path} ${status}`;
  const known = validators.get(key);
  if (known !== undefined) {
    return known;
  }
  document ??= readDocument();
  const schema = document.paths[path]?.[method]?.responses[status]?.schema;
  assert.ok(schema !== undefined, `the description has no body for ${key}`);
  const ajv = new Ajv({ strict: false, allErrors: true, validateFormats: false });
  const definitions = Object.fromEntries(
    Object.entries(document.definitions).map(([name, definition]) => [name, adapt(definition)]),
  );
  const validate = ajv.compile({ ...adapt(schema), definitions });
  validators.set(key, validate);
  return validate;
}

function readDocument(): SwaggerDocument {
  const told = execFileSync("go", ["mod", "download", "-json", mobyModule], { encoding: "utf8" });
  const { Dir } = JSON.parse(told) as { readonly Dir: string };
  return parse(readFileSync(join(Dir, "api/swagger.yaml"), "utf8"), { merge: true }) as SwaggerDocument;
}

function adapt(schema: Schema): Schema {
  const nullable =
    schema["x-nullable"] === true || schema["type"] === "array" || isMap(schema) || "$ref" in schema;
  const adapted = adaptKind(schema);
  return nullable ? { anyOf: [adapted, { type: "null" }] } : adapted;
}

/** Pointers in Go, which the description forgot to call nullable. */
const pointerFields: ReadonlySet<string> = new Set(["OomKillDisable", "MemorySwappiness"]);

function adaptField([name, schema]: [string, Schema]): [string, Schema] {
  return [name, adapt(pointerFields.has(name) ? { ...schema, "x-nullable": true } : schema)];
}

function adaptKind(schema: Schema): Schema {
  if (Array.isArray(schema["allOf"])) {
    return adaptKind(merged(schema));
  }
  if (typeof schema["$ref"] === "string") {
    return { $ref: schema["$ref"] };
  }
  const adapted: Schema = {};
  for (const key of ["type", "enum", "minimum", "maximum", "pattern", "minItems", "maxItems"]) {
    if (key in schema) {
      adapted[key] = schema[key];
    }
  }
  if (schema["items"] !== undefined) {
    adapted["items"] = adapt(schema["items"] as Schema);
  }
  if (schema["properties"] !== undefined) {
    const fields = Object.entries(schema["properties"] as Record<string, Schema>);
    adapted["properties"] = Object.fromEntries(fields.map(adaptField));
    adapted["required"] = schema["required"] ?? [];
    adapted["additionalProperties"] = false;
  }
  if (typeof schema["additionalProperties"] === "object") {
    adapted["additionalProperties"] = adapt(schema["additionalProperties"] as Schema);
  }
  return adapted;
}

/** `allOf` as one object: a closed part would refuse the other parts' fields. */
function merged(schema: Schema): Schema {
  const parts = (schema["allOf"] as Schema[]).map((part) => {
    const name = typeof part["$ref"] === "string" ? part["$ref"].replace("#/definitions/", "") : undefined;
    const resolved = name === undefined ? part : document?.definitions[name];
    assert.ok(resolved !== undefined, `the description has no ${name}`);
    return Array.isArray(resolved["allOf"]) ? merged(resolved) : resolved;
  });
  const all = [...parts, { ...schema, allOf: undefined }] as Schema[];
  return {
    type: "object",
    properties: Object.assign({}, ...all.map((part) => part["properties"] ?? {})) as Schema,
    required: all.flatMap((part) => (part["required"] as string[] | undefined) ?? []),
  };
}

function isMap(schema: Schema): boolean {
  return schema["type"] === "object" && schema["properties"] === undefined;
}

function withoutKeys(body: unknown, keys: readonly string[]): unknown {
  if (Array.isArray(body)) {
    return body.map((each) => withoutKeys(each, keys));
  }
  if (typeof body !== "object" || body === null || keys.length === 0) {
    return body;
  }
  return Object.fromEntries(Object.entries(body).filter(([key]) => !keys.includes(key)));
}
