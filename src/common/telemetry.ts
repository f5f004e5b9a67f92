/** Traces by OpenTelemetry's SDK; loaded only where `OTEL_EXPORTER_OTLP_ENDPOINT` is set. */
import { AsyncLocalStorage } from "node:async_hooks";

import {
  type Attributes,
  type Context,
  defaultTextMapGetter,
  defaultTextMapSetter,
  diag,
  DiagLogLevel,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  trace,
} from "@opentelemetry/api";
import { W3CTraceContextPropagator } from "@opentelemetry/core";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import {
  defaultResource,
  detectResources,
  envDetector,
  resourceFromAttributes,
} from "@opentelemetry/resources";
import { BasicTracerProvider, BatchSpanProcessor } from "@opentelemetry/sdk-trace-base";

import type { Logger } from "./logger.ts";
import { processCalled, backendCalled, cloudCalled, requestAnswered, startEnded } from "./metrics/measure.ts";
import { currentRequestId } from "./request-id.ts";
import { traceBy } from "./tracing.ts";
import { version } from "./version.ts";

/** The longest that a process waits at its end for a collector to take its last spans. */
const lastSpansMs = 3_000;

/** HTTP statuses below 500 that are a failure of a call; others, such as 404, are answers. */
const failures: ReadonlySet<number> = new Set([0, 401, 403, 429]);

/** A span whose end is known when it is made. */
interface FinishedSpan {
  readonly name: string;
  readonly kind: SpanKind;
  /** Milliseconds since 1970. */
  readonly fromMs: number;
  readonly untilMs: number;
  readonly attributes: Attributes;
  /** The failure; undefined if there is none. */
  readonly failure: string | undefined;
}

/**
 * Traces the requests of this process, and what they cause, from now on. The SDK reads its settings from the
 * environment: `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_TRACES_SAMPLER`, …
 *
 * @param service `frontend` or `backend`
 * @returns ends it, once the last spans are sent
 */
export function startTracing(service: string, logger: Logger): () => Promise<void> {
  const note = (message: string): void => logger.warn(`traces: ${message}`);
  const silent = (): void => {};
  diag.setLogger(
    { error: note, warn: note, info: silent, debug: silent, verbose: silent },
    DiagLogLevel.WARN,
  );
  const provider = new BasicTracerProvider({
    resource: defaultResource()
      .merge(resourceFromAttributes({ "service.name": `sockerless-${service}`, "service.version": version }))
      .merge(detectResources({ detectors: [envDetector] })),
    spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())],
  });
  const tracer = provider.getTracer("sockerless", version);
  const propagator = new W3CTraceContextPropagator();
  const current = new AsyncLocalStorage<Context>();

  traceBy({
    inSpan(headers, action) {
      const parent = propagator.extract(ROOT_CONTEXT, headers, defaultTextMapGetter);
      const id = currentRequestId();
      const attributes = id === undefined ? {} : { "sockerless.request.id": id };
      const span = tracer.startSpan("request", { kind: SpanKind.SERVER, attributes }, parent);
      return current.run(trace.setSpan(parent, span), action);
    },
    headers() {
      const headers: Record<string, string> = {};
      const context = current.getStore();
      if (context !== undefined) {
        propagator.inject(context, headers, defaultTextMapSetter);
      }
      return headers;
    },
  });

  const endSpan = (name: string, attributes: Attributes, failure: string | undefined): void => {
    const context = current.getStore();
    const span = context && trace.getSpan(context);
    span?.updateName(name).setAttributes(attributes);
    if (failure !== undefined) {
      span?.setStatus({ code: SpanStatusCode.ERROR, message: failure });
    }
    span?.end();
  };
  const addSpan = ({ name, kind, fromMs, untilMs, attributes, failure }: FinishedSpan): void => {
    const context = current.getStore();
    if (context === undefined) {
      return; // No request has caused it.
    }
    const span = tracer.startSpan(name, { kind, startTime: fromMs, attributes }, context);
    if (failure !== undefined) {
      span.setStatus({ code: SpanStatusCode.ERROR, message: failure });
    }
    span.end(Math.max(fromMs, untilMs));
  };
  const addCall = (
    name: string,
    seconds: number,
    attributes: Attributes,
    failure: string | undefined,
  ): void => {
    const untilMs = Date.now();
    addSpan({
      ...{ name, kind: SpanKind.CLIENT, attributes, failure },
      ...{ fromMs: untilMs - seconds * 1000, untilMs },
    });
  };

  requestAnswered.observe(({ method, route, status }) => {
    const attributes = {
      "http.request.method": method,
      ...(route === undefined ? {} : { "http.route": route }),
      ...(status === undefined ? {} : { "http.response.status_code": status }),
    };
    endSpan(route === undefined ? method : `${method} ${route}`, attributes, failureOf(status));
  });
  backendCalled.observe(({ method, outcome }) => {
    const isFailure = outcome === "system" || outcome === "unavailable";
    const attributes = { "rpc.system": "connect_rpc", "rpc.method": method, "sockerless.outcome": outcome };
    endSpan(method, attributes, isFailure ? outcome : undefined);
  });
  processCalled.observe(({ method, seconds, failure }) =>
    addCall(method, seconds, { "rpc.system": "grpc", "rpc.method": method }, failure),
  );
  cloudCalled.observe(({ service: of, action, status, isThrottled, seconds }) =>
    addCall(
      `${of} ${action}`,
      seconds,
      { "sockerless.cloud.throttled": isThrottled, "http.response.status_code": status },
      isThrottled ? "throttled" : failureOf(failures.has(status) ? 500 : status),
    ),
  );
  startEnded.observe(({ outcome, phases }) => {
    for (const { name, by, fromMs, seconds } of phases) {
      addSpan({
        ...{ name: `start: ${name}`, kind: SpanKind.INTERNAL, fromMs, untilMs: fromMs + seconds * 1000 },
        attributes: { "sockerless.phase.by": by, "sockerless.start.outcome": outcome },
        failure: undefined,
      });
    }
  });

  return async () => {
    const { promise: late, resolve } = Promise.withResolvers<void>();
    const limit = setTimeout(resolve, lastSpansMs);
    await Promise.race([provider.shutdown().catch((error: unknown) => note(String(error))), late]);
    clearTimeout(limit);
  };
}

/** The failure that a status tells; undefined for an answer. */
function failureOf(status: number | undefined): string | undefined {
  return status !== undefined && status >= 500 ? "failed" : undefined;
}
