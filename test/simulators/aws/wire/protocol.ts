/** The protocols of AWS, each as two directions: HTTP request → operation and input, output or error → HTTP answer. */
import { readJson, unreadable, writeJson } from "./json.ts";
import { type OperationModel, type ServiceModel, shapeOf } from "./model.ts";
import { readQuery, writeXml, writeXmlError } from "./query.ts";
import type { WireAnswer, WireRequest } from "../../common/wire/http-endpoint.ts";
import { findRestOperation, readRest } from "./rest.ts";
import { AwsFault } from "./service.ts";

/** An operation and how to read its input. */
export interface WireCall {
  readonly operation: OperationModel;
  /** @throws AwsFault for what cannot be read */
  read(): unknown;
}

/** One protocol. */
export interface Protocol {
  /** @throws AwsFault when there is no such operation */
  find(model: ServiceModel, request: WireRequest): WireCall;
  answer(model: ServiceModel, operation: OperationModel, output: unknown, requestId: string): WireAnswer;
  fail(model: ServiceModel, fault: AwsFault, status: number, requestId: string): WireAnswer;
}

const awsJson: Protocol = {
  find(model, { headers, body }) {
    const [prefix, name = ""] = String(headers["x-amz-target"] ?? "").split(".");
    const operation = prefix === model.metadata.targetPrefix ? model.operations[name] : undefined;
    if (operation === undefined) {
      throw new AwsFault("UnknownOperationException", `no operation ${String(headers["x-amz-target"])}`, 400);
    }
    const wanted = `application/x-amz-json-${model.metadata.jsonVersion}`;
    if (headers["content-type"] !== wanted) {
      throw unreadable(`content-type must be ${wanted}`);
    }
    return { operation, read: () => operation.input && readJson(model, operation.input, parseJson(body)) };
  },
  answer(model, { output: reference }, output, requestId) {
    const value = reference === undefined ? {} : writeJson(model, reference, output);
    return json(200, value, requestId, `application/x-amz-json-${model.metadata.jsonVersion}`);
  },
  fail(model, { code, message, members }, status, requestId) {
    const body = { __type: code, message, ...members };
    return json(status, body, requestId, `application/x-amz-json-${model.metadata.jsonVersion}`);
  },
};

const restJson: Protocol = {
  find(model, request) {
    const found = findRestOperation(model, request);
    if (found === undefined) {
      throw new AwsFault(
        "UnknownOperationException",
        `no operation at ${request.method} ${request.url.pathname}`,
        404,
      );
    }
    const { operation, labels } = found;
    return { operation, read: () => operation.input && readRest(model, operation.input, request, labels) };
  },
  answer(model, { output: reference, http }, output, requestId) {
    const status = http.responseCode ?? 200;
    return reference === undefined || status === 204
      ? { status, headers: { "x-amzn-requestid": requestId }, body: "" }
      : json(status, writeJson(model, reference, output), requestId, "application/json");
  },
  fail(_model, { code, message, members }, status, requestId) {
    const answer = json(
      status,
      { ErrorCode: code, Message: message, ...members },
      requestId,
      "application/json",
    );
    return { ...answer, headers: { ...answer.headers, "x-amzn-errortype": code } };
  },
};

const query: Protocol = {
  find(model, { headers, body }) {
    if (!String(headers["content-type"]).startsWith("application/x-www-form-urlencoded")) {
      throw new AwsFault("InvalidParameterValue", "the request must be form-encoded", 400);
    }
    const parameters = new URLSearchParams(body.toString());
    const name = parameters.get("Action") ?? "";
    const operation = model.operations[name];
    if (operation === undefined || parameters.get("Version") !== model.metadata.apiVersion) {
      throw new AwsFault("InvalidAction", `The action ${name} is not valid for this web service.`, 400);
    }
    return { operation, read: () => operation.input && readQuery(model, operation.input, parameters) };
  },
  answer(model, operation, output, requestId) {
    return xml(200, writeXml(model, operation, output, requestId), requestId);
  },
  fail(model, fault, status, requestId) {
    return xml(status, writeXmlError(model, fault, requestId), requestId);
  },
};

/** The protocol of a service. The JSON of Cloud Map is the older of its two, and the one of the SDK for JavaScript. */
export function protocolOf({ metadata }: ServiceModel): Protocol {
  if (metadata.protocols.includes("json")) {
    return awsJson;
  }
  return metadata.protocol === "rest-json" ? restJson : query;
}

/** The HTTP status that a service's model has for an error. */
export function modelStatus(model: ServiceModel, code: string): number | undefined {
  for (const operation of Object.values(model.operations)) {
    for (const reference of operation.errors ?? []) {
      const { error } = shapeOf(model, reference);
      if (reference.shape === code || error?.code === code) {
        return error?.httpStatusCode;
      }
    }
  }
  return undefined;
}

function parseJson(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString());
  } catch {
    throw unreadable("the body is no JSON");
  }
}

function json(status: number, value: unknown, requestId: string, type: string): WireAnswer {
  return {
    status,
    headers: { "content-type": type, "x-amzn-requestid": requestId },
    body: JSON.stringify(value),
  };
}

function xml(status: number, body: string, requestId: string): WireAnswer {
  return {
    status,
    headers: { "content-type": "text/xml;charset=UTF-8", "x-amzn-requestid": requestId },
    body,
  };
}
