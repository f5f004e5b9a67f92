/** Endpoints whose answers may be long. */
import type { ReplyContext } from "../request-context.ts";
import { flag } from "./query.ts";
import { Slots } from "./slots.ts";

/** Number of answers of one endpoint that are made at once, here and in the backend. */
const atOnce = 2;

/** Number of those with sizes: these wait for agents. */
const sizedAtOnce = 8;

/** Milliseconds after which an answer no longer holds its slot; the longest take less, even on a busy machine. */
const slotLimitMs = 10_000;

/** Requests and paths of an endpoint whose times are remembered. */
const mostRemembered = 1_000;

/** Weight of the last answer in a mean. */
const lastWeight = 0.1;

/** Milliseconds that answers took, by their requests and by the paths of these. */
class Times {
  readonly #last = new Map<string, number>();
  readonly #means = new Map<string, number>();

  /** The time of the last answer to this request; else that of answers to its path on average, or none. */
  expected(request: string): number {
    return this.#last.get(request) ?? this.#means.get(pathOf(request)) ?? 0;
  }

  add(request: string, time: number): void {
    const path = pathOf(request);
    const mean = this.#means.get(path) ?? time;
    remember(this.#means, path, mean + lastWeight * (time - mean));
    remember(this.#last, request, time);
  }
}

function pathOf(request: string): string {
  return request.split("?", 1)[0] ?? "";
}

function remember(times: Map<string, number>, key: string, time: number): void {
  times.delete(key);
  times.set(key, time);
  const [oldest] = times.keys();
  if (times.size > mostRemembered && oldest !== undefined) {
    times.delete(oldest);
  }
}

/**
 * Makes at most two answers of an endpoint at once, so that a crowd of requests does not hold up other endpoints: one in
 * order of arrival, and one of those that take the shortest, so that neither a crowd of long ones nor one of short ones
 * holds up others. Those with sizes have slots of their own: they wait for agents, and would have others wait with them.
 */
export function inTurn<Rest extends readonly unknown[], Result>(
  handler: (context: ReplyContext, ...rest: Rest) => Promise<Result>,
): typeof handler {
  const slots = new Slots(atOnce);
  const sizedSlots = new Slots(sizedAtOnce);
  const times = new Times();
  let isOldestServed = false;
  return async (context, ...rest) => {
    const { signal, request } = context;
    if (flag(context.query, "size")) {
      using _slot = await sizedSlots.enter({ signal });
      return await handler(context, ...rest);
    }
    const key = request.url?.slice(0, 1_000) ?? "";
    const arrived = performance.now();
    const order = (): number => (isOldestServed ? times.expected(key) : arrived);
    using _slot = await slots.enter({ limitMs: slotLimitMs, signal, order });
    const isOldest = !isOldestServed;
    isOldestServed = true;
    const begun = performance.now();
    try {
      return await handler(context, ...rest);
    } finally {
      isOldestServed &&= !isOldest;
      const time = Math.min(performance.now() - begun, slotLimitMs);
      times.add(key, signal.aborted ? Math.max(time, times.expected(key)) : time);
    }
  };
}
