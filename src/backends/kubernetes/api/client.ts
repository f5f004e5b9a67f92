/** Calls to the API server of one cluster. */
import {
  AuthorizationV1Api,
  type Configuration,
  CoreV1Api,
  createConfiguration,
  KubeConfig,
  type KubernetesListObject,
  type KubernetesObject,
  NetworkingV1Api,
  type RequestContext,
  type ResponseContext,
  ServerConfiguration,
  StorageV1Api,
} from "@kubernetes/client-node";
import { WebSocket } from "ws";

import type { Clock } from "../../../common/clock.ts";
import type { KubernetesSection } from "../../../common/config/load.ts";
import { invalid, messageOf, unavailable } from "../../../common/errors.ts";
import { cloudCalled } from "../../../common/metrics/measure.ts";
import { onAbort } from "../../../common/on-abort.ts";
import { pagesOf } from "../../cloud/calls/pages.ts";
import { withCallFaultPoints } from "../../driver/fault-points.ts";
import { KubernetesError } from "./errors.ts";

/** Settings of a {@link KubernetesClient}. */
export type ClusterSettings = Pick<KubernetesSection, "kubeconfig" | "context" | "namespace">;

/** Options of one call of the client's. */
export type CallOptions = NonNullable<Parameters<CoreV1Api["listNode"]>[1]>;

/** Arguments of a call for a page of the namespace's objects. */
export interface ListPage {
  readonly namespace: string;
  readonly limit: number;
  readonly _continue?: string;
}

/** Objects of a page of a list. */
const pageSize = 500;
/** A call that has no answer by then has failed. */
const callLimitMs = 30_000;
/** Calls that the server asks to be made later are made again so often. */
const mostRetries = 5;
const retryLimitS = 10;
const defaultRetryS = 1;
/** More than a frame of anything that is read here. */
const maxMessageBytes = 4 * 1024 * 1024;

/** The cluster that the configuration names. Failures are {@link KubernetesError}s. */
export class KubernetesClient {
  readonly core: CoreV1Api;
  readonly networking: NetworkingV1Api;
  readonly storage: StorageV1Api;
  readonly config: KubeConfig;
  readonly namespace: string;
  readonly #authorization: AuthorizationV1Api;
  readonly #clock: Clock;
  readonly #abandoned = new AbortController();

  /** @throws invalid: there is no such kubeconfig, context or cluster */
  constructor(settings: ClusterSettings, clock: Clock) {
    this.config = loadCluster(settings);
    this.#clock = clock;
    this.namespace = settings.namespace ?? namespaceOf(this.config) ?? "default";
    const configuration = createConfiguration({
      baseServer: new ServerConfiguration(this.server, {}),
      authMethods: { default: this.config },
    });
    this.core = new CoreV1Api(configuration);
    this.networking = new NetworkingV1Api(configuration);
    this.storage = new StorageV1Api(configuration);
    this.#authorization = new AuthorizationV1Api(configuration);
  }

  /** URL of the API server. */
  get server(): string {
    return this.config.getCurrentCluster()?.server ?? "";
  }

  /** Whether this process is in a pod of the cluster, and uses the service account of that. */
  get isInCluster(): boolean {
    return this.config.getCurrentCluster()?.name === "inCluster";
  }

  /** Aborts when no more calls are made. */
  get abandoned(): AbortSignal {
    return this.#abandoned.signal;
  }

  /**
   * Makes a call; one that the server wants to be made later is made again.
   *
   * @param name of the call, for messages: `create pods`
   * @throws KubernetesError; the signal's reason
   */
  readonly call = withCallFaultPoints(
    (name: string, make: (options: CallOptions) => Promise<unknown>, signal?: AbortSignal) =>
      this.#call(name, make, signal),
    (name) => `kubernetes.${name}`,
  ) as <T>(name: string, make: (options: CallOptions) => Promise<T>, signal?: AbortSignal) => Promise<T>;

  /** The pages of a list of the namespace's objects. @throws as {@link call} */
  pages<Page extends KubernetesListObject<KubernetesObject>>(
    name: string,
    make: (page: ListPage, options: CallOptions) => Promise<Page>,
  ): AsyncGenerator<Page> {
    const { namespace } = this;
    return pagesOf(
      (_continue) => {
        const page = { namespace, limit: pageSize, ...(_continue === undefined ? {} : { _continue }) };
        return this.call(name, (options) => make(page, options));
      },
      ({ metadata }) => metadata?._continue,
    );
  }

  async #call<T>(name: string, make: (options: CallOptions) => Promise<T>, signal?: AbortSignal): Promise<T> {
    for (let tries = 0; ; tries++) {
      const begunMs = this.#clock.nowMs();
      const report = (status: number, isThrottled: boolean): void => {
        const seconds = (this.#clock.nowMs() - begunMs) / 1000;
        cloudCalled.report(() => ({ service: "kubernetes", action: name, status, isThrottled, seconds }));
      };
      try {
        const answer = await make(bounded([this.abandoned, ...(signal === undefined ? [] : [signal])]));
        report(200, false);
        return answer;
      } catch (error) {
        this.abandoned.throwIfAborted();
        signal?.throwIfAborted();
        const failure = new KubernetesError(name, error);
        report(failure.status, failure.outcome === "throttled");
        if (failure.outcome !== "throttled" || tries >= mostRetries) {
          throw failure;
        }
        const pauseS = Math.min(failure.retryAfterS ?? defaultRetryS, retryLimitS);
        await this.#clock.sleep(pauseS * 1000, this.abandoned);
      }
    }
  }

  /**
   * Opens a WebSocket to a path of the API server; it is paused.
   *
   * @param query its parameters
   * @throws KubernetesError; the signal's reason
   */
  async connect(
    name: string,
    path: string,
    query: Readonly<Record<string, string>>,
    protocol: string,
    signal: AbortSignal,
  ): Promise<WebSocket> {
    const options: WebSocket.ClientOptions = {
      perMessageDeflate: false,
      handshakeTimeout: callLimitMs,
      maxPayload: maxMessageBytes,
    };
    await this.config.applyToHTTPSOptions(options);
    signal.throwIfAborted();
    this.abandoned.throwIfAborted();
    const where = new URL(this.server.replace(/\/$/, "") + path);
    where.protocol = where.protocol.replace("http", "ws");
    where.search = new URLSearchParams(query).toString();
    const socket = new WebSocket(where, [protocol], options);
    const either = AbortSignal.any([signal, this.abandoned]);
    using _leaving = onAbort(either, () => socket.terminate());
    return await new Promise((resolve, reject) => {
      socket.once("open", () => {
        socket.pause(); // Nothing is lost that comes before somebody listens.
        resolve(socket);
      });
      socket.once("error", (error) => {
        socket.on("error", () => {}); // "close" follows.
        reject(either.aborted ? either.reason : new KubernetesError(name, error));
      });
    });
  }

  /** Tells whether this backend has a right in its namespace. @throws KubernetesError; the signal's reason */
  async may(
    attributes: {
      readonly verb: string;
      readonly resource: string;
      readonly subresource?: string | undefined;
      /** API group; undefined: the core's. */
      readonly group?: string | undefined;
    },
    signal: AbortSignal,
  ): Promise<boolean> {
    const { verb, resource, subresource, group } = attributes;
    const resourceAttributes = {
      namespace: this.namespace,
      verb,
      resource,
      ...(subresource === undefined ? {} : { subresource }),
      ...(group === undefined ? {} : { group }),
    };
    const { status } = await this.call(
      "create selfsubjectaccessreviews",
      (options) =>
        this.#authorization.createSelfSubjectAccessReview(
          { body: { spec: { resourceAttributes } } },
          options,
        ),
      signal,
    );
    return status?.allowed === true;
  }

  /** Ends the calls that are under way, and refuses others. */
  abandon(): void {
    this.#abandoned.abort(unavailable("the backend is shutting down"));
  }
}

function loadCluster({ kubeconfig, context }: ClusterSettings): KubeConfig {
  const config = new KubeConfig();
  try {
    if (kubeconfig === undefined) {
      config.loadFromDefault();
    } else {
      config.loadFromFile(kubeconfig);
    }
  } catch (error) {
    throw invalid(
      `configuration: the kubeconfig ${kubeconfig ?? ""} cannot be read: ${messageOf(error)}`,
      error,
    );
  }
  if (context !== undefined) {
    if (config.getContextObject(context) === null) {
      throw invalid(`configuration: the kubeconfig has no context ${context}`);
    }
    config.setCurrentContext(context);
  }
  if (config.getCurrentCluster() === null) {
    throw invalid(
      "configuration: no cluster is named: set kubernetes.kubeconfig, and kubernetes.context where it has no current one",
    );
  }
  return config;
}

function namespaceOf(config: KubeConfig): string | undefined {
  return config.getContextObject(config.getCurrentContext())?.namespace || undefined;
}

/** Options of a call whose body is sent as it is, with fields that the library does not know. */
export function withBody(options: CallOptions, body: object): CallOptions {
  const text = JSON.stringify(body);
  const sent = before((context) => context.setBody(text));
  return { ...options, middleware: [...(options.middleware ?? []), ...sent] };
}

/** Options of a call that ends with these signals, and after its time. */
function bounded(signals: readonly AbortSignal[]): CallOptions {
  const signal = AbortSignal.any([...signals, AbortSignal.timeout(callLimitMs)]);
  return { middleware: before((context) => context.setSignal(signal)), middlewareMergeStrategy: "append" };
}

function before(change: (context: RequestContext) => void): Configuration["middleware"] {
  const { middleware } = createConfiguration({
    promiseMiddleware: [
      {
        pre(context: RequestContext): Promise<RequestContext> {
          change(context);
          return Promise.resolve(context);
        },
        post: (context: ResponseContext) => Promise.resolve(context),
      },
    ],
  });
  return middleware;
}
