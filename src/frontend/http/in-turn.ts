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

/** Requests of an endpoint whose times are remembered. */
const mostRemembered = 1_000;

/** Factor: a request queues as if it had arrived this many times its expected duration later. */
const precedence = 100;

/** Weight of the last answer in the mean. */
const lastWeight = 0.1;

/** Milliseconds that answers took, by their requests. */
class Times {
  readonly #times = new Map<string, number>();
  #mean = 0;

  /** The time of the last answer to this request; of a request that is not known, that of answers on average. */
  expected(request: string): number {
    return this.#times.get(request) ?? this.#mean;
  }

  add(request: string, time: number): void {
    this.#mean += lastWeight * (time - this.#mean);
    this.#times.delete(request);
    this.#times.set(request, time);
    const [oldest] = this.#times.keys();
    if (this.#times.size > mostRemembered && oldest !== undefined) {
      this.#times.delete(oldest);
    }
  }
}

/**
 * Makes at most two answers of an endpoint at once, so that a crowd of requests does not hold up other endpoints. They are
 * made in order of arrival, but for those that take long, which let others go before them for a while. Those with sizes have
 * slots of their own: they wait for agents, and would have others wait with them.
 */
export function inTurn<Rest extends readonly unknown[], Result>(
  handler: (context: ReplyContext, ...rest: Rest) => Promise<Result>,
): typeof handler {
  const slots = new Slots(atOnce);
  const sizedSlots = new Slots(sizedAtOnce);
  const times = new Times();
  return async (context, ...rest) => {
    const { signal, request } = context;
    if (flag(context.query, "size")) {
      using _slot = await sizedSlots.enter({ signal });
      return await handler(context, ...rest);
    }
    const key = request.url?.slice(0, 1_000) ?? "";
    const arrived = performance.now();
    const order = (): number => arrived + precedence * times.expected(key);
    using _slot = await slots.enter({ limitMs: slotLimitMs, signal, order });
    const begun = performance.now();
    try {
      return await handler(context, ...rest);
    } finally {
      const time = Math.min(performance.now() - begun, slotLimitMs);
      times.add(key, signal.aborted ? Math.max(time, times.expected(key)) : time);
    }
  };
}
