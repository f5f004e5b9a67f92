/** Endpoints whose answers may be long. */
import type { ReplyContext } from "../request-context.ts";
import { flag } from "./query.ts";
import { Slots } from "./slots.ts";

/** Number of answers of one endpoint that are made at once, here and in the backend. */
const atOnce = 2;

/** Milliseconds after which an answer counts no more: the longest are made in less, even on a busy machine. */
const slotLimitMs = 10_000;

/**
 * Makes at most two answers of an endpoint at once, in order of arrival, so that a crowd of requests does not hold up
 * other endpoints. One with sizes begins at once: it waits for agents, and would have others wait with it.
 */
export function inTurn<Result>(handler: (context: ReplyContext) => Promise<Result>): typeof handler {
  const slots = new Slots(atOnce);
  return async (context) => {
    if (flag(context.query, "size")) {
      return await handler(context);
    }
    using _slot = await slots.enter({ limitMs: slotLimitMs, signal: context.signal });
    return await handler(context);
  };
}
