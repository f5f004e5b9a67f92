/** Azure's rate limits for a subscription's principal, and the priorities of calls that share one. */
import { parseRates as readRates } from "../../cloud/calls/configured-rates.ts";
import type { Rate } from "../../cloud/calls/token-bucket.ts";

/** Azure's published defaults, overridden by `aca.api_rates`. */
export const defaultRates = {
  /** The Resource Manager's limits, per kind of call, subscription, principal and region. */
  reads: { burst: 250, perSecond: 25 },
  writes: { burst: 200, perSecond: 10 },
  /** Creations of shares and storages, part of `writes`, so that those of many volumes leave room for starts. */
  "volume-writes": { burst: 40, perSecond: 3 },
  deletes: { burst: 200, perSecond: 10 },
  /** Reads of executions, part of `reads`, so that polling many containers leaves room for starts. */
  polls: { burst: 50, perSecond: 15 },
  "log-queries": { burst: 100, perSecond: 6 },
} as const satisfies Record<string, Rate>;

/** A rate that several calls share. */
export type RateName = keyof typeof defaultRates;

/**
 * Priorities of calls that share a rate: stops before starts, as each is of an execution that was started; imports of
 * images last, each of which is looked at for as long as some registry likes.
 */
const priorities = { first: 0, later: 1, last: 2 } as const;
/** Imports, and looks at them. */
const ofRegistry = /\/providers\/Microsoft\.ContainerRegistry\//i;

/** The limits of a call, the scarcest rate first. */
export interface Pace {
  readonly rates: readonly RateName[];
  readonly priority: number;
}

/** The limits of a request. */
export function paceOf(method: string, url: string): Pace {
  const { pathname } = new URL(url);
  if (pathname.endsWith("/query")) {
    return { rates: ["log-queries"], priority: priorities.first };
  }
  const isRead = method === "GET" || method === "HEAD";
  if (ofRegistry.test(pathname)) {
    return { rates: [isRead ? "reads" : "writes"], priority: priorities.last };
  }
  if (isRead) {
    return /\/executions(\/[^/]+)?$/.test(pathname)
      ? { rates: ["polls", "reads"], priority: priorities.later }
      : { rates: ["reads"], priority: priorities.first };
  }
  return method === "DELETE"
    ? { rates: ["deletes"], priority: priorities.first }
    : {
        rates: /\/(shares|storages)\/[^/]+$/.test(pathname) ? ["volume-writes", "writes"] : ["writes"],
        priority: pathname.endsWith("/stop") ? priorities.first : priorities.later,
      };
}

/** Parses `aca.api_rates`: `writes=400/20`. @throws as {@link readRates} */
export function parseRates(settings: readonly string[]): Partial<Record<RateName, Rate>> {
  return readRates("aca.api_rates", defaultRates, settings);
}
