/** Resource providers, as Azure Resource Manager calls them. */
import type { Principal } from "../entra/entra.ts";
import type { Schema } from "../models/schema.ts";

/** A request to a provider, after Resource Manager's own checks. */
export interface ArmCall {
  /** `https://127.0.0.1:port`, as the caller wrote it. */
  readonly origin: string;
  /** The whole URL without its query. */
  readonly url: string;
  readonly apiVersion: string;
  /** Names in the path, by the template's. */
  readonly path: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  /** The body as JSON; undefined: there is none. */
  readonly body: unknown;
  readonly principal: Principal;
}

/** The answer of a provider. */
export interface ArmAnswer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: unknown;
}

/** An operation of a provider. */
export interface ArmOperation {
  /** The `operationId` of the specification. */
  readonly name: string;
  readonly method: "GET" | "PUT" | "PATCH" | "POST" | "DELETE";
  /** After `/subscriptions/{subscriptionId}`. */
  readonly path: string;
  /** The permission that it needs; absent: none. */
  readonly action?: string;
  readonly body?: { readonly schema: Schema; readonly required: boolean };
  /** Parameters of the query besides `api-version`. */
  readonly query?: readonly string[];
  /** @throws ArmFault */
  run(call: ArmCall): Promise<ArmAnswer> | ArmAnswer;
}

/** A resource provider. */
export interface ResourceProvider {
  /** Its name in the log of calls. */
  readonly name: string;
  /** `Microsoft.App` */
  readonly namespace: string;
  /** API versions whose requests are as the simulated ones, the newest first. */
  readonly apiVersions: readonly string[];
  readonly operations: readonly ArmOperation[];
}

/** `/resourceGroups/{resourceGroupName}/providers/NAMESPACE` */
export function inGroup(namespace: string, path: string): string {
  return `/resourceGroups/{resourceGroupName}/providers/${namespace}${path}`;
}
