/** Azure's clients, with pacing, retries, logging and converted errors. */
import { ContainerAppsAPIClient } from "@azure/arm-appcontainers";
import { StorageManagementClient } from "@azure/arm-storage";
import {
  bearerTokenAuthenticationPolicy,
  createDefaultHttpClient,
  createHttpHeaders,
  createPipelineFromOptions,
  createPipelineRequest,
  type Pipeline,
  type PipelinePolicy,
  type PipelineResponse,
} from "@azure/core-rest-pipeline";
import { DefaultAzureCredential, type TokenCredential } from "@azure/identity";

import type { Clock } from "../../../common/clock.ts";
import { unavailable } from "../../../common/errors.ts";
import { componentLogger, type Logger } from "../../../common/logger.ts";
import { version } from "../../../common/version.ts";
import { Denials } from "../../cloud/calls/denials.ts";
import type { Rate } from "../../cloud/calls/token-bucket.ts";
import { withCallFaultPoints } from "../../driver/fault-points.ts";
import { AzureError } from "./errors.ts";
import { pacingPolicy } from "./pacing.ts";
import type { RateName } from "./rates.ts";

/** Settings of the clients. */
export interface AzureOptions {
  readonly subscriptionId: string;
  /** Address of the Resource Manager; default: Azure's own. */
  readonly endpoint: string | undefined;
  /** Rates that differ from Azure's defaults. */
  readonly rates: Readonly<Partial<Record<RateName, Rate>>>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Options common to all operations of the SDKs. */
export interface SendOptions {
  readonly abortSignal: AbortSignal;
}

/**
 * Makes one call, which may be a long-running operation to its end.
 *
 * @param operation as Azure's specification names it: `Jobs_CreateOrUpdate`
 * @throws AzureError; the signal's reason
 */
export type AzureCall = <T>(
  operation: string,
  send: (options: SendOptions) => PromiseLike<T>,
  signal?: AbortSignal,
) => Promise<T>;

/** A request without an SDK. */
export interface PlainRequest {
  readonly method: "GET" | "POST" | "PUT" | "DELETE";
  /** Absolute, with its query. */
  readonly url: string;
  /** The audience of the token: `https://api.loganalytics.io/.default`; undefined: the Resource Manager's. */
  readonly scope?: string | undefined;
  /** Authorizes the request instead of a token. */
  readonly signing?: PipelinePolicy;
  /** Sent as JSON. */
  readonly body?: unknown;
}

/** An answer with a status below 400. */
export interface PlainAnswer {
  readonly status: number;
  header(name: string): string | undefined;
  /** Parsed JSON; undefined if there is no body. */
  readonly body: unknown;
}

/** All of Azure. Credentials come from the SDK's default chain. */
export interface AzureClients {
  readonly apps: ContainerAppsAPIClient;
  readonly storage: StorageManagementClient;
  readonly credential: TokenCredential;
  readonly call: AzureCall;
  /** Sends a request without an SDK, within {@link call}. Throws on refusal. */
  request(request: PlainRequest, options: SendOptions): Promise<PlainAnswer>;
  /** Address of a resource in the Resource Manager: `path` begins with `/subscriptions/`. */
  armUrl(path: string, apiVersion: string): string;
  /** Aborts calls in progress and refuses others. */
  abandon(): void;
}

const armEndpoint = "https://management.azure.com";
/** Audience of tokens: the Resource Manager's own, whatever its configured address. */
const armScope = `${armEndpoint}/.default`;
/** The SDKs' own retry policy, replaced by {@link pacingPolicy}. */
const sdkRetries = { maxRetries: 0 };

/** Creates the clients without any calls. */
export function createAzureClients(options: AzureOptions): AzureClients {
  const abandoned = new AbortController();
  const { subscriptionId, endpoint = armEndpoint } = options;
  const credential = new DefaultAzureCredential({ retryOptions: { maxRetries: 2 } });
  const pacing = pacingPolicy({ ...options, signal: abandoned.signal });
  const settings = {
    endpoint,
    credentialScopes: [armScope],
    credentials: { scopes: [armScope] },
    retryOptions: sdkRetries,
    userAgentOptions: { userAgentPrefix: `sockerless/${version}` },
  };
  const paced = <Client extends { readonly pipeline: Pick<Pipeline, "addPolicy"> }>(
    client: Client,
  ): Client => {
    client.pipeline.addPolicy(pacing, { phase: "Retry" });
    return client;
  };
  const http = createDefaultHttpClient();
  const plain = new Map<string, Pipeline>();
  const pipelineWith = (authorization: PipelinePolicy): Pipeline => {
    const pipeline = createPipelineFromOptions(settings);
    pipeline.addPolicy(authorization, { phase: "Sign" });
    pipeline.addPolicy(pacing, { phase: "Retry" });
    return pipeline;
  };
  const pipelineFor = (scope: string): Pipeline => {
    const known = plain.get(scope);
    const pipeline = known ?? pipelineWith(bearerTokenAuthenticationPolicy({ credential, scopes: scope }));
    plain.set(scope, pipeline);
    return pipeline;
  };
  return {
    apps: paced(new ContainerAppsAPIClient(credential, subscriptionId, { ...settings, $host: endpoint })),
    storage: paced(new StorageManagementClient(credential, subscriptionId, settings)),
    credential,
    call: createCall(abandoned.signal, new Denials(componentLogger(options.logger, "azure"))),
    async request({ method, url, scope = armScope, signing, body }, { abortSignal }) {
      const request = createPipelineRequest({
        method,
        url,
        abortSignal,
        ...(body === undefined
          ? {}
          : {
              body: JSON.stringify(body),
              headers: createHttpHeaders({ "content-type": "application/json" }),
            }),
      });
      const pipeline = signing === undefined ? pipelineFor(scope) : pipelineWith(signing);
      return answerOf(await pipeline.sendRequest(http, request));
    },
    armUrl: (path, apiVersion) => `${endpoint.replace(/\/+$/, "")}${path}?api-version=${apiVersion}`,
    abandon: () => abandoned.abort(unavailable("the backend is shutting down")),
  };
}

function createCall(abandoned: AbortSignal, denials: Denials): AzureCall {
  const call = async (
    operation: string,
    send: (options: SendOptions) => PromiseLike<unknown>,
    signal?: AbortSignal,
  ): Promise<unknown> => {
    const abortSignal = signal === undefined ? abandoned : AbortSignal.any([signal, abandoned]);
    abortSignal.throwIfAborted();
    try {
      const answer = await send({ abortSignal });
      denials.allowed(operation);
      return answer;
    } catch (error) {
      abortSignal.throwIfAborted();
      const failure = error instanceof AzureError ? error : new AzureError(operation, error);
      denials.failed(operation, failure);
      throw failure;
    }
  };
  return withCallFaultPoints(call, (operation) => `azure.${operation}`) as AzureCall;
}

/** A refusal of a request without SDK, in the form that {@link AzureError} reads. */
class RefusedRequest extends Error {
  readonly statusCode: number;
  readonly code: string | undefined;
  readonly response: PipelineResponse;

  constructor(response: PipelineResponse, body: unknown) {
    const { error } = (body ?? {}) as {
      readonly error?: { readonly code?: string; readonly message?: string };
    };
    super(error?.message ?? "");
    this.statusCode = response.status;
    this.code = error?.code ?? response.headers.get("x-ms-error-code"); // Storage answers with XML.
    this.response = response;
  }
}

function answerOf(response: PipelineResponse): PlainAnswer {
  const { status, headers, bodyAsText } = response;
  const body = parsed(bodyAsText ?? "");
  if (status >= 400) {
    throw new RefusedRequest(response, body);
  }
  return { status, header: (name) => headers.get(name), body };
}

function parsed(text: string): unknown {
  try {
    return text === "" ? undefined : JSON.parse(text);
  } catch {
    return undefined; // A gateway's page.
  }
}
