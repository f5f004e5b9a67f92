/**
 * Unary calls by hand: Connect's binary form over HTTP/2, which is what the frontend sends. The library answers every
 * other form of the same methods (gRPC, JSON, HTTP/1.1, compression, time limits).
 *
 * Why: the library's pipeline of async iterators costs more than most answers (docs/adr/0090-unary-calls-by-hand.md).
 */
import type { Http2ServerRequest, ServerHttp2Stream } from "node:http2";

import { create, type DescMethod, type DescService, fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type ConnectRouter,
  createContextValues,
  createServiceImplSpec,
  type HandlerContext,
  type MethodImplSpec,
} from "@connectrpc/connect";
import { codeToHttpStatus, errorToJsonBytes } from "@connectrpc/connect/protocol-connect";
import type { Logger } from "pino";

import { toConnectError } from "../../common/errors.ts";
import { plainHeaders, unaryContentType, wholeBody } from "../../common/http2-messages.ts";
import { callReport } from "./call-report.ts";

/** Headers that ask for more than is done here. */
const others = ["content-encoding", "connect-timeout-ms"] as const;

/** Made once: an error costs its stack. */
const callerLeft = new ConnectError("the caller left", Code.Canceled);
const callOver = new ConnectError("the call is over", Code.Canceled);

type UnarySpec = MethodImplSpec & { readonly kind: "unary" };

/** The unary methods of a backend's services. */
export class UnaryCalls {
  readonly #methods = new Map<string, UnarySpec>();
  readonly #logger: Logger;

  /** @param logger each call's end is told to, as {@link callReport} does */
  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** A router that takes note of what is registered with it, and registers it with `router`. */
  noting(router: ConnectRouter): ConnectRouter {
    const noting: ConnectRouter = {
      handlers: router.handlers,
      service: (service, implementation, options) => {
        router.service(service, implementation, options);
        for (const spec of Object.values(createServiceImplSpec(service, implementation).methods)) {
          if (spec.kind === "unary") {
            this.#methods.set(`/${service.typeName}/${spec.method.name}`, spec);
          }
        }
        return noting;
      },
      rpc: (method, implementation, options) => {
        router.rpc(method, implementation, options);
        return noting;
      },
    };
    return noting;
  }

  /**
   * Answers a request, if it is one of these calls.
   *
   * @returns whether it was
   */
  handle(request: Http2ServerRequest): boolean {
    const { headers, url } = request;
    const spec = this.#methods.get(url);
    if (
      spec === undefined ||
      request.method !== "POST" ||
      headers["content-type"] !== unaryContentType ||
      others.some((name) => headers[name] !== undefined)
    ) {
      return false;
    }
    const { stream } = request;
    const chunks: Buffer[] = [];
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.on("end", () => {
      const body = wholeBody(stream, headers, chunks);
      if (body !== undefined) {
        void this.#answer(spec, request, body);
      }
    });
    return true;
  }

  async #answer({ method, impl }: UnarySpec, request: Http2ServerRequest, body: Uint8Array): Promise<void> {
    const { stream } = request;
    const context = new CallContext(method, request);
    const leave = (): void => context.end(callerLeft);
    stream.on("close", leave);
    const report = callReport(this.#logger, method, context.signal);
    try {
      const output = create(method.output, await impl(fromBinary(method.input, body), context));
      const headers = { ...context.answerHeaders, ":status": 200, "content-type": unaryContentType };
      respond(stream, headers, toBinary(method.output, output));
      report();
    } catch (error) {
      report(error);
      const refused = toConnectError(error);
      const status = codeToHttpStatus(refused.code);
      const headers = {
        ...context.answerHeaders,
        ...Object.fromEntries(refused.metadata),
        ":status": status,
      };
      respond(
        stream,
        { ...headers, "content-type": "application/json" },
        errorToJsonBytes(refused, undefined),
      );
    } finally {
      stream.off("close", leave);
      context.end(callOver);
    }
  }
}

/** The library's context, whose headers are made when somebody looks at them: hardly a method does. */
class CallContext implements HandlerContext {
  readonly protocolName = "connect";
  readonly values = createContextValues();
  readonly method: DescMethod;
  readonly #request: Http2ServerRequest;
  readonly #over = new AbortController();
  #responseHeader: Headers | undefined;
  #responseTrailer: Headers | undefined;

  constructor(method: DescMethod, request: Http2ServerRequest) {
    this.method = method;
    this.#request = request;
  }

  get service(): DescService {
    return this.method.parent;
  }

  get signal(): AbortSignal {
    return this.#over.signal;
  }

  get requestMethod(): string {
    return this.#request.method;
  }

  get url(): string {
    return this.#request.url;
  }

  get requestHeader(): Headers {
    return plainHeaders(this.#request.headers);
  }

  get responseHeader(): Headers {
    this.#responseHeader ??= new Headers();
    return this.#responseHeader;
  }

  get responseTrailer(): Headers {
    this.#responseTrailer ??= new Headers();
    return this.#responseTrailer;
  }

  /** Calls with a time limit are the library's. */
  timeoutMs(): undefined {
    return undefined;
  }

  /** What the method has set; in Connect's unary answers trailers are headers. */
  get answerHeaders(): Record<string, string> {
    const trailers = [...(this.#responseTrailer ?? [])].map(
      ([name, value]) => [`trailer-${name}`, value] as const,
    );
    return Object.fromEntries([...(this.#responseHeader ?? []), ...trailers]);
  }

  /** Aborts the call's signal, once. */
  end(reason: ConnectError): void {
    this.#over.abort(reason);
  }
}

/** The length is how the caller knows that nothing was cut off. */
function respond(
  stream: ServerHttp2Stream,
  headers: Readonly<Record<string, string | number>>,
  body: Uint8Array,
): void {
  if (!stream.destroyed && !stream.closed) {
    stream.respond({ ...headers, "content-length": body.byteLength });
    stream.end(body);
  }
}
