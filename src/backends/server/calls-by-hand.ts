/**
 * Calls that are answered by hand, in the forms that the frontend sends. The library answers every other form of the same
 * methods (gRPC, JSON, HTTP/1.1, compression, time limits).
 *
 * Why: the library's pipeline of async iterators costs more than most answers (docs/adr/0090-unary-calls-by-hand.md).
 */
import type { Http2ServerRequest, Http2Session, ServerHttp2Stream } from "node:http2";

import type { DescMethod, DescService } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type ConnectRouter,
  createContextValues,
  createServiceImplSpec,
  type HandlerContext,
  type MethodImplSpec,
} from "@connectrpc/connect";
import type { Logger } from "pino";

import { toConnectError } from "../../common/connect-error.ts";
import { plainHeaders } from "../../common/http2-messages.ts";
import { forRequest, requestIdHeader } from "../../common/request-id.ts";
import { isOfLostCaller } from "../../common/unary-request.ts";
import { callReport } from "./call-report.ts";
import { callerLost } from "../concurrency/caller-lost.ts";

/** One form of a call on the wire. */
export interface CallForm {
  readonly contentType: string;
  /** Headers that ask for more than is done by hand. */
  readonly refusedHeaders: readonly string[];
  /**
   * Finds how a method's calls are read.
   *
   * @param path `/package.Service/Method`
   * @returns undefined where they do not come in this form
   */
  readerOf(path: string, spec: MethodImplSpec): CallReader | undefined;
}

/** Reads a request, and gives the call to `make` once there is enough of it; a request that was cut before is no call. */
export type CallReader = (request: Http2ServerRequest, make: (call: ReadCall) => void) => void;

/** A call that has been read. */
export interface ReadCall {
  /** Runs the method. @throws what the method throws, for {@link refuse} */
  run(context: CallContext): Promise<AnswerEnd>;
  refuse(error: ConnectError, context: CallContext): AnswerEnd;
}

/** Writes the end of an answer, or the whole where it is one message. */
export type AnswerEnd = (stream: ServerHttp2Stream) => void | Promise<void>;

interface MethodByHand {
  readonly method: DescMethod;
  readonly form: CallForm;
  readonly read: CallReader;
}

/** Made once: an error costs its stack. */
const callerLeft = new ConnectError("the caller left", Code.Canceled);
const callOver = new ConnectError("the call is over", Code.Canceled);

/** The methods of a backend's services that are answered by hand. */
export class CallsByHand {
  readonly #forms: readonly CallForm[];
  readonly #logger: Logger;
  readonly #methods = new Map<string, MethodByHand>();

  /** @param logger each call's end is told to, as {@link callReport} does */
  constructor(forms: readonly CallForm[], logger: Logger) {
    this.#forms = forms;
    this.#logger = logger;
  }

  /** A router that takes note of what is registered with it, and registers it with `router`. */
  noting(router: ConnectRouter): ConnectRouter {
    const noting: ConnectRouter = {
      handlers: router.handlers,
      service: (service, implementation, options) => {
        router.service(service, implementation, options);
        for (const spec of Object.values(createServiceImplSpec(service, implementation).methods)) {
          this.#note(`/${service.typeName}/${spec.method.name}`, spec);
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
    const byHand = this.#methods.get(url);
    if (
      byHand === undefined ||
      request.method !== "POST" ||
      headers["content-type"] !== byHand.form.contentType ||
      byHand.form.refusedHeaders.some((name) => headers[name] !== undefined)
    ) {
      return false;
    }
    byHand.read(request, (call) => {
      void forRequest(headers[requestIdHeader], () => this.#answer(byHand.method, request, call));
    });
    return true;
  }

  #note(path: string, spec: MethodImplSpec): void {
    for (const form of this.#forms) {
      const read = form.readerOf(path, spec);
      if (read !== undefined) {
        this.#methods.set(path, { method: spec.method, form, read });
      }
    }
  }

  async #answer(method: DescMethod, request: Http2ServerRequest, call: ReadCall): Promise<void> {
    const { stream } = request;
    const context = new CallContext(method, request);
    const { session } = stream;
    const isLost = (): boolean => hasEnded(session) || isOfLostCaller(stream);
    const leave = (): void => context.end(isLost() ? callerLost : callerLeft);
    stream.on("close", leave);
    const report = callReport(this.#logger, method, context.signal);
    let end: AnswerEnd;
    try {
      end = await call.run(context);
      report();
    } catch (error) {
      report(error);
      end = call.refuse(toConnectError(error), context);
    }
    stream.off("close", leave);
    await end(stream);
    context.end(callOver);
  }
}

function hasEnded(session: Http2Session | undefined): boolean {
  return session === undefined || session.closed || session.destroyed;
}

/** The library's context, whose headers are made when somebody looks at them: hardly a method does. */
export class CallContext implements HandlerContext {
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

  /** Headers and trailers that the method has set; Connect's unary answers carry trailers as headers. */
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
