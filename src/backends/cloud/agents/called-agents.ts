/** Callback agents: waits for their calls, verifies their proofs, and then identifies them by their keys. */
import { createAgentClient } from "../../../agent-client/client.ts";
import type { Clock } from "../../../common/clock.ts";
import { fromUnknown, messageOf } from "../../../common/errors.ts";
import type { Logger } from "../../../common/logger.ts";
import type { AgentReach } from "../../driver/agents.ts";
import { directTraffic } from "../../driver/ready-made-roles.ts";
import type { CloudAuthority } from "../authority/authority.ts";
import type { Caller } from "../callback/relay-messages.ts";
import type { Relay } from "../callback/relay.ts";
import type { AgentFinder, FoundAgent, TaskPlace } from "../contract/agent-finder.ts";
import type { AgentProof } from "./agent-proof.ts";
import { ProofTurns } from "./proof-turns.ts";

/** Dependencies of the wait for agents. */
export interface CalledAgentsOptions {
  readonly relay: Pick<Relay, "path" | "callersOf" | "has" | "doubt" | "refuse" | "allow">;
  readonly authority: Pick<CloudAuthority, "credentialsFor">;
  readonly proof: AgentProof;
  /** Address at which agents call, as sent to them. */
  readonly url: string;
  /**
   * Whether containers reach each other at the cloud's addresses. If not, agents forward the traffic of a network
   * through the relay.
   */
  readonly reachOneAnother: boolean;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Time limits of a key's proof, which grow per attempt, so that a stalling key holds a slot only briefly. */
const proofLimitsMs = [4_000, 8_000, 15_000] as const;
/** Pauses after an inconclusive proof; each key waits only for its own. */
const pausesMs = [1_000, 2_000, 5_000, 10_000] as const;
/** Maximum number of unproven keys that are logged individually. */
const maxLogged = 10;

/** Reaches agents by the connections that they open. */
export function calledAgents(options: CalledAgentsOptions): AgentFinder {
  const { relay, url } = options;
  const turns = new ProofTurns();
  const firstProven = (containerId: string, place: TaskPlace, signal: AbortSignal): Promise<FoundAgent> =>
    meetFirstProven(options, turns, containerId, place, signal);
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

/** Agents reach each other through the relay that they call. */
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
  turns: ProofTurns,
  containerId: string,
  place: TaskPlace,
  signal: AbortSignal,
): Promise<FoundAgent> {
  const { relay } = options;
  const over = new AbortController();
  const first = Promise.withResolvers<FoundAgent>();
  const scope = AbortSignal.any([signal, over.signal]);
  const known = new Set<string>();
  const asking = new Asking(options, turns, place, scope);
  const requestProofs = async (): Promise<never> => {
    for await (const caller of relay.callersOf(containerId, scope)) {
      if (known.has(caller.pin)) {
        continue; // Its proof is pending already, or nothing is left to prove.
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
    return await Promise.race([first.promise, requestProofs()]);
  } finally {
    over.abort();
  }
}

/** Keys of one container that must prove that they run in its task. */
class Asking {
  readonly #options: CalledAgentsOptions;
  readonly #turns: ProofTurns;
  readonly #place: TaskPlace;
  readonly #signal: AbortSignal;
  #told = 0;

  constructor(options: CalledAgentsOptions, turns: ProofTurns, place: TaskPlace, signal: AbortSignal) {
    this.#options = options;
    this.#turns = turns;
    this.#place = place;
    this.#signal = signal;
  }

  /**
   * Requests proofs from a key until one is conclusive.
   *
   * @returns "refused": it belongs to another task; "left": it has disconnected
   * @throws the signal's reason
   */
  async ask(caller: Caller): Promise<FoundAgent | "refused" | "left"> {
    const { relay, clock } = this.#options;
    for (let tries = 0; ; tries++) {
      const outcome = await this.#requestProof(caller, tries);
      if (outcome !== "unknown") {
        return outcome;
      }
      await clock.sleep(pausesMs[Math.min(tries, pausesMs.length - 1)] ?? 0, this.#signal);
      if (!relay.has(caller)) {
        return "left";
      }
    }
  }

  async #requestProof(caller: Caller, tries: number): Promise<FoundAgent | "refused" | "unknown"> {
    const { relay, logger } = this.#options;
    const { task, address } = this.#place;
    const about = { container: caller.containerId, task, key: caller.pin };
    const limitMs = proofLimitsMs[Math.min(tries, proofLimitsMs.length - 1)] ?? 0;
    const asked = await this.#turns.begin(caller.containerId, this.#signal);
    if (asked === undefined) {
      return "unknown";
    }
    let isFree = !relay.has(caller);
    try {
      if (isFree) {
        return "unknown"; // It has left while it waited.
      }
      const scope = AbortSignal.any([this.#signal, asked.signal]);
      const pin = await prove(this.#options, caller, this.#place, scope, limitMs);
      isFree = true;
      logger.debug(about, "an agent that called has proven itself");
      return { address, pin };
    } catch (error) {
      this.#signal.throwIfAborted();
      const { kind } = fromUnknown(error);
      if (kind === "conflict") {
        logger.info(about, `an agent that called is another task's: ${messageOf(error)}`);
        return "refused"; // It stays connected for the wait for its own task's agent.
      }
      if (kind === "forbidden") {
        relay.refuse(caller);
        logger.warn(about, `an agent that called is not whom it claims to be: ${messageOf(error)}`);
        return "refused";
      }
      relay.doubt(caller);
      if (tries === 0 && ++this.#told <= maxLogged) {
        const more = this.#told === maxLogged ? "; others are not told" : "";
        logger.info(
          { ...about, err: error },
          `an agent that called has not proven itself: ${messageOf(error)}${more}`,
        );
      }
      return "unknown";
    } finally {
      this.#turns.end(asked, isFree);
    }
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
