/** Endpoints whose answers may be long. */
import type { ReplyContext } from "../request-context.ts";
import { Slots } from "./slots.ts";

/** Answers of one endpoint that are made at once, here and in the backend. */
const atOnce = 2;

/** Milliseconds for which an answer counts as being made; a longer one waits for something external, as a backend's restart. */
const makingMs = 1_000;

/**
 * Makes few answers of an endpoint at once, so that other endpoints are answered between those of a crowd; others wait
 * in order of arrival.
 */
export function inTurn(handler: (context: ReplyContext) => Promise<void>): typeof handler {
  const slots = new Slots(atOnce);
  return async (context) => {
    using slot = await slots.enter();
    const limit = setTimeout(() => slot[Symbol.dispose](), makingMs);
    try {
      await handler(context);
    } finally {
      clearTimeout(limit);
    }
  };
}
