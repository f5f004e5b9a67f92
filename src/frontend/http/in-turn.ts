/** Endpoints whose answers may be long. */
import { remember } from "../../common/forget-oldest.ts";
import type { ReplyContext } from "../request-context.ts";
import { flag } from "./query.ts";
import { Slots } from "./slots.ts";

/** Number of answers of one endpoint that are made at once, here and in the backend. */
const atOnce = 2;

/** Number of those with sizes: these wait for agents. */
const sizedAtOnce = 8;

/** Milliseconds after which an answer no longer holds its slot; the longest take less, even on a busy machine. */
const slotLimitMs = 10_000;

/** Requests, and objects, of an endpoint whose times are remembered. */
const mostRemembered = 1_000;

/** Weight of the last answer in a mean. */
const lastWeight = 0.1;

/** A request, as far as its time depends on it. */
interface Asked {
  /** The objects in its path; the same for all ways to write them but names, and empty for a list. */
  readonly objects: string;
  readonly query: string;
}

/** Milliseconds that answers took, by their requests and by the objects of these. */
class Times {
  readonly #last = new Map<string, number>();
  readonly #means = new Map<string, number>();

  /** The time of the last answer to this request; else that of answers with its objects on average, or 0. */
  expected({ objects, query }: Asked): number {
    return this.#last.get(`${objects}?${query}`) ?? this.#means.get(objects) ?? 0;
  }

  add({ objects, query }: Asked, time: number): void {
    const mean = this.#means.get(objects) ?? time;
    remember(this.#means, objects, mean + lastWeight * (time - mean), mostRemembered);
    remember(this.#last, `${objects}?${query}`, time, mostRemembered);
  }
}

/** Longest part of names, and of a query, that tells requests apart. */
const mostCharacters = 1_000;

/** Digits of an ID that tell it apart: a container is named by any beginning of its ID. */
const idDigits = 12;

function askedOf({ parameters, request }: ReplyContext): Asked {
  const url = request.url ?? "";
  const queryStart = url.indexOf("?") + 1;
  const objects = Object.values(parameters)
    .map((name) => (/^[0-9a-f]{12,64}$/.test(name) ? name.slice(0, idDigits) : name))
    .join("/");
  return {
    objects: copyOf(objects.slice(0, mostCharacters)),
    query: queryStart === 0 ? "" : copyOf(url.slice(queryStart, queryStart + mostCharacters)),
  };
}

/** The same text; a part of a longer one would keep the whole in memory. */
function copyOf(part: string): string {
  return Buffer.from(part).toString();
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
    const { signal } = context;
    if (flag(context.query, "size")) {
      using _slot = await sizedSlots.enter({ signal });
      return await handler(context, ...rest);
    }
    const asked = askedOf(context);
    const arrived = performance.now();
    const order = (): number => (isOldestServed ? times.expected(asked) : arrived);
    let isOldest = false;
    const returned = (): void => {
      isOldestServed &&= !isOldest;
    };
    using _slot = await slots.enter({ limitMs: slotLimitMs, signal, order, returned });
    isOldest = !isOldestServed;
    isOldestServed = true;
    const begun = performance.now();
    const took = (): number => Math.min(performance.now() - begun, slotLimitMs);
    try {
      const result = await handler(context, ...rest);
      times.add(asked, took());
      return result;
    } catch (error) {
      if (signal.aborted) {
        times.add(asked, Math.max(took(), times.expected(asked)));
      } // Else its object may be none of those that are there: names without end.
      throw error;
    }
  };
}
