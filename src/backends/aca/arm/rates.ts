/** The rates at which Azure lets a subscription's principal call it, and the order of calls that share one. */
import { parseRates as readRates } from "../../cloud/calls/configured-rates.ts";
import type { Rate } from "../../cloud/calls/token-bucket.ts";

/** Azure's published defaults. Where they differ, `aca.api_rates` says so. */
export const defaultRates = {
  /** The Resource Manager counts each kind of call for a subscription, principal and region. */
  reads: { burst: 250, perSecond: 25 },
  writes: { burst: 200, perSecond: 10 },
  deletes: { burst: 200, perSecond: 10 },
  /** Looks at executions, within `reads`: many containers' looks leave room for starts. */
  polls: { burst: 50, perSecond: 15 },
  "log-queries": { burst: 100, perSecond: 6 },
} as const satisfies Record<string, Rate>;

/** A rate that several calls share. */
export type RateName = keyof typeof defaultRates;

/** The order of calls that share a rate: starts first, since a user waits for them, then stops, then clearing away. */
const priorities = { start: 0, stop: 1, clear: 2 } as const;

/** How a call is paced. The scarcest rate comes first. */
export interface Pace {
  readonly rates: readonly RateName[];
  readonly priority: number;
}

/** How a request is paced. */
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

/** Reads `aca.api_rates`: `writes=400/20`. @throws as {@link readRates} does */
export function parseRates(settings: readonly string[]): Partial<Record<RateName, Rate>> {
  return readRates("aca.api_rates", defaultRates, settings);
}
