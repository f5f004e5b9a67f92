/** Agents that call: they are waited for, asked to prove themselves, and from then on known by their key. */
import { createAgentClient } from "../../../agent-client/client.ts";
import type { Clock } from "../../../common/clock.ts";
import { fromUnknown, messageOf, unavailable } from "../../../common/errors.ts";
import type { Logger } from "../../../common/logger.ts";
import type { AgentReach } from "../../driver/agents.ts";
import { directTraffic } from "../../driver/ready-made-roles.ts";
import type { CloudAuthority } from "../authority/authority.ts";
import type { Caller } from "../callback/relay-messages.ts";
import type { Relay } from "../callback/relay.ts";
import type { AgentFinder, FoundAgent, TaskPlace } from "../contract/agent-finder.ts";
import type { AgentProof } from "./agent-proof.ts";

/** Parts of the backend that waiting for agents needs. */
export interface CalledAgentsOptions {
  readonly relay: Pick<Relay, "path" | "callersOf" | "has" | "doubt" | "refuse" | "allow">;
  readonly authority: Pick<CloudAuthority, "credentialsFor">;
  readonly proof: AgentProof;
  /** Address at which agents call, as they are told. */
  readonly url: string;
  /**
   * Whether containers reach one another at the addresses that the cloud tells. Where they do not, agents carry what
   * containers of one network send one another, through the relay.
   */
  readonly reachOneAnother: boolean;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Times that a key has to prove itself: more with each attempt, so that those who only stall take little. */
const proofLimitsMs = [4_000, 8_000, 15_000] as const;
/** Keys of one container that are asked for their proof at once: those that called last. */
const maxAsked = 128;
/** Pauses after a proof that could be neither had nor refused; none is kept waiting for another's. */
const pausesMs = [1_000, 2_000, 5_000, 10_000] as const;
/** Keys that have not proven themselves are told one by one up to here. */
const maxTold = 10;

/** Reaches agents by the connections that they make. */
export function calledAgents(options: CalledAgentsOptions): AgentFinder {
  const { relay, url } = options;
  const firstProven = (containerId: string, place: TaskPlace, signal: AbortSignal): Promise<FoundAgent> =>
    meetFirstProven(options, containerId, place, signal);
  return {
    traffic: options.reachOneAnother ? directTraffic : { kind: "relayed" },
    agentReach: relayedBy(relay),
    addressOf: ({ pin }) => ({ kind: "called", path: relay.path, pin }),
    containerAddressOf: ({ address }) => (options.reachOneAnother ? address : ""),
    await: firstProven,
    meet: firstProven,
    forget: (containerId, { pin }) => relay.refuse({ containerId, pin: Buffer.from(pin).toString("hex") }),
    describeSilence: () => `its agent has not called ${url} (does its network let it get there?)`,
  };
}

/** Agents reach one another through the relay that they call. */
function relayedBy(relay: Pick<Relay, "allow">): AgentReach {
  const named = (containerId: string, pin: Uint8Array): Caller => ({
    containerId,
    pin: Buffer.from(pin).toString("hex"),
  });
  return {
    kind: "relayed",
    allow: (containerId, pin, others) =>
      relay.allow(
        containerId,
        pin && {
          pin: named(containerId, pin).pin,
          others: others.map((other) => named(other.containerId, other.pin)),
        },
      ),
  };
}

async function meetFirstProven(
  options: CalledAgentsOptions,
  containerId: string,
  place: TaskPlace,
  signal: AbortSignal,
): Promise<FoundAgent> {
  const { relay } = options;
  const over = new AbortController();
  const first = Promise.withResolvers<FoundAgent>();
  const scope = AbortSignal.any([signal, over.signal]);
  const known = new Set<string>();
  const asking = new Asking(options, place, scope);
  const askAll = async (): Promise<never> => {
    for await (const caller of relay.callersOf(containerId, scope)) {
      if (known.has(caller.pin)) {
        continue; // It is being asked, or there is nothing to ask it for.
      }
      known.add(caller.pin);
      void asking.ask(caller).then((outcome) => {
        if (typeof outcome === "object") {
          first.resolve(outcome);
        } else if (outcome === "left") {
          known.delete(caller.pin);
        }
      }, first.reject);
    }
    throw scope.reason;
  };
  try {
    return await Promise.race([first.promise, askAll()]);
  } finally {
    over.abort();
  }
}

/** Keys of one container that are asked to prove that they run in a task. */
class Asking {
  readonly #options: CalledAgentsOptions;
  readonly #place: TaskPlace;
  readonly #signal: AbortSignal;
  /** Keys that are asked now, by what ends it; in a flood it is the flood that is asked longest. */
  readonly #asked = new Set<AbortController>();
  #told = 0;

  constructor(options: CalledAgentsOptions, place: TaskPlace, signal: AbortSignal) {
    this.#options = options;
    this.#place = place;
    this.#signal = signal;
  }

  /**
   * Asks a key until it has proven itself or cannot.
   *
   * @returns "refused": it is another's; "left": it is not there any more
   * @throws the signal's reason
   */
  async ask(caller: Caller): Promise<FoundAgent | "refused" | "left"> {
    const { relay, clock } = this.#options;
    for (let tries = 0; ; tries++) {
      const outcome = await this.#askOnce(caller, tries);
      if (outcome !== "unknown") {
        return outcome;
      }
      await clock.sleep(pausesMs[Math.min(tries, pausesMs.length - 1)] ?? 0, this.#signal);
      if (!relay.has(caller)) {
        return "left";
      }
    }
  }

  async #askOnce(caller: Caller, tries: number): Promise<FoundAgent | "refused" | "unknown"> {
    const { relay, logger } = this.#options;
    const { task, address } = this.#place;
    const about = { container: caller.containerId, task, key: caller.pin };
    const limitMs = proofLimitsMs[Math.min(tries, proofLimitsMs.length - 1)] ?? 0;
    const asked = this.#begin();
    try {
      const scope = AbortSignal.any([this.#signal, asked.signal]);
      const pin = await prove(this.#options, caller, this.#place, scope, limitMs);
      logger.debug(about, "an agent that called has proven itself");
      return { address, pin };
    } catch (error) {
      this.#signal.throwIfAborted();
      const { kind } = fromUnknown(error);
      if (kind === "conflict") {
        logger.info(about, `an agent that called is another task's: ${messageOf(error)}`);
        return "refused"; // It waits for whoever asks for its own task.
      }
      if (kind === "forbidden") {
        relay.refuse(caller);
        logger.warn(about, `an agent that called is not whom it claims to be: ${messageOf(error)}`);
        return "refused";
      }
      relay.doubt(caller);
      if (tries === 0 && ++this.#told <= maxTold) {
        const more = this.#told === maxTold ? "; others are not told" : "";
        logger.info(
          { ...about, err: error },
          `an agent that called has not proven itself: ${messageOf(error)}${more}`,
        );
      }
      return "unknown";
    } finally {
      this.#asked.delete(asked);
    }
  }

  /** Begins to ask one more, in the place of the one that has been asked longest where they are too many. */
  #begin(): AbortController {
    const asked = new AbortController();
    this.#asked.add(asked);
    const [longest] = this.#asked;
    if (this.#asked.size > maxAsked && longest !== undefined) {
      this.#asked.delete(longest);
      longest.abort(unavailable("many others have called since"));
    }
    return asked;
  }
}

async function prove(
  { relay, authority, proof }: CalledAgentsOptions,
  { containerId, pin: shown }: Caller,
  place: TaskPlace,
  signal: AbortSignal,
  limitMs: number,
): Promise<Uint8Array> {
  const pin = new Uint8Array(Buffer.from(shown, "hex"));
  const agent = createAgentClient(
    { kind: "called", path: relay.path, pin },
    { containerId, credentials: () => authority.credentialsFor(containerId) },
  );
  try {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(limitMs)]);
    await proof.check({ containerId, pin, client: agent.client }, place, limit);
    return pin;
  } finally {
    agent.close();
  }
}
