/** REST paths of EFS: the template's labels, the query's parameters and the body are one input. */
import type { WireRequest } from "../../common/wire/http-endpoint.ts";
import { readJson, unreadable } from "./json.ts";
import { type OperationModel, type ServiceModel, type ShapeReference, shapeOf } from "./model.ts";

/** The part of a request that REST reads. */
type RestRequest = Pick<WireRequest, "method" | "url" | "body">;

/** The operation whose method and path template a request fits, with the labels' values. */
export function findRestOperation(
  model: ServiceModel,
  { method, url }: RestRequest,
): { readonly operation: OperationModel; readonly labels: Record<string, string> } | undefined {
  for (const operation of Object.values(model.operations)) {
    if (operation.http.method === method) {
      const labels = fit(operation.http.requestUri, url.pathname);
      if (labels !== undefined) {
        return { operation, labels };
      }
    }
  }
  return undefined;
}

/**
 * The input of an operation.
 *
 * @throws AwsFault `SerializationException`
 */
export function readRest(
  model: ServiceModel,
  reference: ShapeReference,
  { url, body }: RestRequest,
  labels: Readonly<Record<string, string>>,
): unknown {
  const result: Record<string, unknown> = {};
  const members = Object.entries(shapeOf(model, reference).members ?? {});
  const inBody = members.filter(([, { location }]) => location === undefined);
  if (body.length > 0) {
    Object.assign(result, readJson(model, reference, parse(body)));
  }
  for (const name of Object.keys(result)) {
    if (!inBody.some(([known]) => known === name)) {
      throw unreadable(`${name} does not belong into the body`);
    }
  }
  for (const [name, member] of members) {
    const key = member.locationName ?? name;
    if (member.location === "uri") {
      result[name] = labels[key];
    } else if (member.location === "querystring") {
      const values = url.searchParams.getAll(key);
      if (values.length > 0) {
        result[name] = queryValue(model, member, values);
      }
    }
  }
  return result;
}

function parse(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString());
  } catch {
    throw unreadable("the body is no JSON");
  }
}

function queryValue(model: ServiceModel, member: ShapeReference, values: readonly string[]): unknown {
  const { type } = shapeOf(model, member);
  const [value = ""] = values;
  switch (type) {
    case "list":
      return values;
    case "integer":
    case "long":
      if (!/^-?\d+$/.test(value)) {
        throw unreadable(`${value} can not be converted to an Integer`);
      }
      return Number(value);
    case "boolean":
      return value === "true";
    default:
      return value;
  }
}

function fit(template: string, path: string): Record<string, string> | undefined {
  const wanted = template.split("/");
  const given = path.split("/");
  const labels: Record<string, string> = {};
  if (wanted.length !== given.length) {
    return undefined;
  }
  for (const [index, part] of wanted.entries()) {
    const actual = decodeURIComponent(given[index] ?? "");
    const label = /^\{(\w+)\}$/.exec(part)?.[1];
    if (label !== undefined && actual !== "") {
      labels[label] = actual;
    } else if (part !== actual) {
      return undefined;
    }
  }
  return labels;
}
