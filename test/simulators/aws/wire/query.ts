/** The form-encoded requests and XML answers of EC2 (`ec2`) and STS (`query`). */
import { XMLBuilder } from "fast-xml-parser";

import { type OperationModel, type ServiceModel, type ShapeReference, shapeOf } from "./model.ts";
import { AwsFault } from "./service.ts";

/** Parameters by the parts of their dotted names. */
type Tree = Map<string, Tree | string>;

/**
 * The input of an operation.
 *
 * @throws AwsFault `UnknownParameter`, `InvalidParameterValue`
 */
export function readQuery(
  model: ServiceModel,
  reference: ShapeReference,
  parameters: URLSearchParams,
): unknown {
  const tree: Tree = new Map();
  for (const [name, value] of parameters) {
    if (name !== "Action" && name !== "Version") {
      plant(tree, name, value);
    }
  }
  return readTree(model, reference, tree, "");
}

function plant(tree: Tree, name: string, value: string): void {
  const parts = name.split(".");
  const last = parts.pop() ?? "";
  let branch = tree;
  for (const part of parts) {
    const next = branch.get(part);
    if (next instanceof Map) {
      branch = next;
    } else {
      const grown: Tree = new Map();
      branch.set(part, grown);
      branch = grown;
    }
  }
  branch.set(last, value);
}

function readTree(
  model: ServiceModel,
  reference: ShapeReference,
  value: Tree | string,
  path: string,
): unknown {
  const shape = shapeOf(model, reference);
  const refuse = (): AwsFault =>
    new AwsFault("InvalidParameterValue", `Value (${String(value)}) for parameter ${path} is invalid.`);
  if (shape.type === "list" && value === "" && model.metadata.protocol !== "ec2") {
    return []; // The SDKs write an empty list so.
  }
  if (shape.type === "structure" || shape.type === "list") {
    if (typeof value === "string") {
      throw refuse();
    }
    return shape.type === "structure"
      ? readStructure(model, shape.members ?? {}, value, path)
      : readList(model, shape.member, elementsOf(model, value, path), path);
  }
  if (typeof value !== "string") {
    throw refuse();
  }
  switch (shape.type) {
    case "boolean":
      if (value !== "true" && value !== "false") {
        throw refuse();
      }
      return value === "true";
    case "integer":
    case "long":
      if (!/^-?\d+$/.test(value)) {
        throw refuse();
      }
      return Number(value);
    case "timestamp":
      return new Date(value);
    default:
      return value;
  }
}

function readStructure(
  model: ServiceModel,
  members: Readonly<Record<string, ShapeReference>>,
  tree: Tree,
  path: string,
): unknown {
  const result: Record<string, unknown> = {};
  for (const [wireName, inner] of tree) {
    const found = Object.entries(members).find(([name, member]) => parameterName(name, member) === wireName);
    const below = path === "" ? wireName : `${path}.${wireName}`;
    if (found === undefined) {
      throw new AwsFault("UnknownParameter", `The parameter ${below} is not recognized`);
    }
    result[found[0]] = readTree(model, found[1], inner, below);
  }
  return result;
}

/** EC2 numbers elements right below the list's name, the other services below `member`. */
function elementsOf({ metadata }: ServiceModel, tree: Tree, path: string): Tree {
  const elements = metadata.protocol === "ec2" ? tree : tree.get("member");
  if (!(elements instanceof Map) || (elements !== tree && tree.size > 1)) {
    throw new AwsFault("MalformedQueryString", `The list ${path} has no elements by number`);
  }
  return elements;
}

function readList(
  model: ServiceModel,
  member: ShapeReference | undefined,
  tree: Tree,
  path: string,
): unknown[] {
  return [...tree]
    .map(([index, inner]) => {
      if (member === undefined || !/^[1-9]\d*$/.test(index)) {
        throw new AwsFault("UnknownParameter", `The parameter ${path}.${index} is not recognized`);
      }
      return { index: Number(index), value: readTree(model, member, inner, `${path}.${index}`) };
    })
    .sort((one, other) => one.index - other.index)
    .map(({ value }) => value);
}

/** EC2 has names of its own in requests, and else those of its answers with a capital letter. */
function parameterName(name: string, { queryName, locationName }: ShapeReference): string {
  return queryName ?? upperFirst(locationName ?? name);
}

function upperFirst(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

const builder = new XMLBuilder({ ignoreAttributes: false, suppressEmptyNode: true });

/** The XML of an answer. */
export function writeXml(
  model: ServiceModel,
  operation: OperationModel,
  output: unknown,
  requestId: string,
): string {
  const body = operation.output === undefined ? {} : (xmlOf(model, operation.output, output) as object);
  const wrapper = operation.output?.resultWrapper;
  const content =
    wrapper === undefined
      ? { requestId, ...body }
      : { [wrapper]: body, ResponseMetadata: { RequestId: requestId } };
  return document({
    [`${operation.name}Response`]: { "@_xmlns": `${model.metadata.xmlNamespace}/`, ...content },
  });
}

/** The XML of an error. */
export function writeXmlError(
  model: ServiceModel,
  { code, message }: { readonly code: string; readonly message: string },
  requestId: string,
): string {
  const error = { Code: code, Message: message };
  return document(
    model.metadata.protocol === "ec2"
      ? { Response: { Errors: { Error: error }, RequestID: requestId } }
      : { ErrorResponse: { Error: { Type: "Sender", ...error }, RequestId: requestId } },
  );
}

function document(content: object): string {
  return `<?xml version="1.0" encoding="UTF-8"?>\n${builder.build(content)}`;
}

/** A value as the XML builder wants it. */
function xmlOf(model: ServiceModel, reference: ShapeReference, value: unknown): unknown {
  const shape = shapeOf(model, reference);
  switch (shape.type) {
    case "structure": {
      const result: Record<string, unknown> = {};
      for (const [name, inner] of Object.entries(value as Record<string, unknown>)) {
        const member = shape.members?.[name];
        if (member === undefined) {
          throw new Error(`${reference.shape} has no member ${name}`);
        }
        if (inner !== undefined) {
          result[member.locationName ?? name] = xmlOf(model, member, inner);
        }
      }
      return result;
    }
    case "list": {
      const { member } = shape;
      const items = (value as unknown[]).map((item) =>
        member === undefined ? item : xmlOf(model, member, item),
      );
      return items.length === 0 ? "" : { [member?.locationName ?? "member"]: items };
    }
    case "timestamp":
      return (value as Date).toISOString();
    default:
      return String(value);
  }
}
