/** Azure's rate limits for a subscription's principal, and the priorities of calls that share one. */
import { parseRates as readRates } from "../../cloud/calls/configured-rates.ts";
import type { Rate } from "../../cloud/calls/token-bucket.ts";

/** Azure's published defaults, overridden by `aca.api_rates`. */
export const defaultRates = {
  /** The Resource Manager's limits, per kind of call, subscription, principal and region. */
  reads: { burst: 250, perSecond: 25 },
  writes: { burst: 200, perSecond: 10 },
  deletes: { burst: 200, perSecond: 10 },
  /** Reads of executions, part of `reads`, so that polling many containers leaves room for starts. */
  polls: { burst: 50, perSecond: 15 },
  "log-queries": { burst: 100, perSecond: 6 },
} as const satisfies Record<string, Rate>;

/** A rate that several calls share. */
export type RateName = keyof typeof defaultRates;

/** Priorities of calls that share a rate: starts first, since users wait for them, then stops, then cleanup. */
const priorities = { start: 0, stop: 1, clear: 2 } as const;

/** The limits of a call, the scarcest rate first. */
export interface Pace {
  readonly rates: readonly RateName[];
  readonly priority: number;
}

/** The limits of a request. */
export function paceOf(method: string, url: string): Pace {
  const { pathname } = new URL(url);
  if (pathname.endsWith("/query")) {
    return { rates: ["log-queries"], priority: priorities.start };
  }
  switch (method) {
    case "GET":
    case "HEAD":
      return /\/executions(\/[^/]+)?$/.test(pathname)
        ? { rates: ["polls", "reads"], priority: priorities.stop }
        : { rates: ["reads"], priority: priorities.start };
    case "DELETE":
      return { rates: ["deletes"], priority: priorities.clear };
    default:
      return { rates: ["writes"], priority: pathname.endsWith("/stop") ? priorities.stop : priorities.start };
  }
}

/** Parses `aca.api_rates`: `writes=400/20`. @throws as {@link readRates} */
export function parseRates(settings: readonly string[]): Partial<Record<RateName, Rate>> {
  return readRates("aca.api_rates", defaultRates, settings);
}
