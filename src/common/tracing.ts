/**
 * Traces of requests through this process and the next. Their SDK is in telemetry.ts, which is loaded only where traces
 * are wanted: until then nothing here does anything.
 */

/** Headers of a request that has come, as Node gives them. */
export type IncomingHeaders = Readonly<Record<string, string | readonly string[] | undefined>>;

/** The maker of spans. */
export interface Tracing {
  /** Runs an action in a new span of a request that has come, as part of the trace that its headers name. */
  inSpan<T>(headers: IncomingHeaders, action: () => T): T;
  /** W3C trace context of the current span, for a call to another process; empty outside of any. */
  headers(): Record<string, string>;
}

let current: Tracing | undefined;

/** Has requests traced from now on. */
export function traceBy(tracing: Tracing): void {
  current = tracing;
}

/** Runs an action in a span of a client's request, of the client's trace or of a new one. */
export function beginSpan<T>(headers: IncomingHeaders, action: () => T): T {
  return current === undefined ? action() : current.inSpan(headers, action);
}

/** Runs an action in a span of another process's call, if that is traced. */
export function continueTrace<T>(headers: IncomingHeaders, action: () => T): T {
  return current === undefined || headers["traceparent"] === undefined
    ? action()
    : current.inSpan(headers, action);
}

/** Headers of the current span for a call to another process; empty where nothing is traced. */
export function traceHeaders(): Record<string, string> {
  return current?.headers() ?? {};
}
