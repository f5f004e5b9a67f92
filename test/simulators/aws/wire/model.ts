/** Service models, as botocore publishes them, and where they are kept here. */
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** A use of a shape: as a member, an element, an input. */
export interface ShapeReference {
  readonly shape: string;
  readonly locationName?: string;
  readonly queryName?: string;
  /** The part of the message in which a member of an input or output travels; absent: in the body. */
  readonly location?: "uri" | "querystring" | "header" | "headers" | "statusCode";
}

/** A shape with the constraints on its values. */
export interface Shape {
  readonly type:
    | "structure"
    | "list"
    | "map"
    | "string"
    | "integer"
    | "long"
    | "double"
    | "float"
    | "boolean"
    | "timestamp"
    | "blob";
  readonly members?: Readonly<Record<string, ShapeReference>>;
  readonly required?: readonly string[];
  readonly member?: ShapeReference;
  readonly key?: ShapeReference;
  readonly value?: ShapeReference;
  readonly min?: number;
  readonly max?: number;
  readonly pattern?: string;
  readonly enum?: readonly string[];
  readonly error?: { readonly code?: string; readonly httpStatusCode?: number };
}

/** An operation of a service. */
export interface OperationModel {
  readonly name: string;
  readonly http: { readonly method: string; readonly requestUri: string; readonly responseCode?: number };
  readonly input?: ShapeReference;
  readonly output?: ShapeReference & { readonly resultWrapper?: string };
  readonly errors?: readonly ShapeReference[];
}

/** The extract of one service's model. */
export interface ServiceModel {
  readonly metadata: {
    readonly apiVersion: string;
    readonly endpointPrefix: string;
    readonly protocol: string;
    readonly protocols: readonly string[];
    readonly signingName?: string;
    readonly targetPrefix?: string;
    readonly jsonVersion?: string;
    readonly xmlNamespace?: string;
  };
  readonly operations: Readonly<Record<string, OperationModel>>;
  readonly shapes: Readonly<Record<string, Shape>>;
}

/** The model of a service, by the name of its file below `models/fixtures`. */
export function loadModel(service: string): ServiceModel {
  return JSON.parse(readFileSync(join(modelsDirectory(), `${service}.json`), "utf8")) as ServiceModel;
}

/** The service's name in a request's credential scope. */
export function signingName({ metadata }: ServiceModel): string {
  return metadata.signingName ?? metadata.endpointPrefix;
}

/** @throws Error for a model that names a shape which it does not have */
export function shapeOf(model: ServiceModel, { shape }: ShapeReference): Shape {
  const found = model.shapes[shape];
  if (found === undefined) {
    throw new Error(`the model has no shape ${shape}`);
  }
  return found;
}

/** Compiled code lies elsewhere than the models, which are data. */
function modelsDirectory(): string {
  for (let folder = import.meta.dirname; ; folder = dirname(folder)) {
    if (existsSync(join(folder, "package.json"))) {
      return join(folder, "test/simulators/aws/models/fixtures");
    }
    if (folder === dirname(folder)) {
      throw new Error("not below a checkout");
    }
  }
}
