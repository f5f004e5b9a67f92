/**
 * Callback agents: waits for calls with the token of a start, verifies proofs, and then identifies agents by their keys.
 */
import { createAgentClient } from "../../../agent-client/client.ts";
import type { Clock } from "../../../common/clock.ts";
import { fromUnknown, messageOf } from "../../../common/errors.ts";
import type { Logger } from "../../../common/logger.ts";
import { Lock } from "../../concurrency/serial.ts";
import type { AgentReach } from "../../driver/agents.ts";
import { directTraffic } from "../../driver/ready-made-roles.ts";
import type { CloudAuthority } from "../authority/authority.ts";
import type { Caller } from "../callback/relay-messages.ts";
import type { Relay } from "../callback/relay.ts";
import type { AgentFinder, FoundAgent, TaskPlace } from "../contract/agent-finder.ts";
import type { AgentProof } from "./agent-proof.ts";

/** Dependencies of the wait for agents. */
export interface CalledAgentsOptions {
  readonly relay: Pick<Relay, "path" | "callersOf" | "has" | "refuse" | "allow">;
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

/** Time limit of a proof. */
const proofLimitMs = 15_000;
/** Pause after an inconclusive one, before anything else of its container is asked for a proof. */
const pauseMs = 2_000;

/** Reaches agents by the connections that they open. */
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
    describeSilence: () =>
      `its agent has not called ${url} (does its network let it get there, and is its agent of this version?)`,
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

/** Keys that have shown the token of the task's start are asked one after the other: there is one, as a rule. */
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
  const turns = new Lock();
  const requestProofs = async (): Promise<never> => {
    for await (const caller of relay.callersOf(containerId, scope)) {
      if (caller.start !== place.launchGeneration || known.has(caller.pin)) {
        continue; // Another start's or a stranger; or its proof is pending already, or nothing is left to prove.
      }
      known.add(caller.pin);
      void ask(options, caller, place, turns, scope).then((outcome) => {
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

/**
 * Requests proofs from a key, one a turn, until one is conclusive.
 *
 * @returns "refused": it belongs to another task; "left": it has disconnected
 * @throws the signal's reason
 */
async function ask(
  options: CalledAgentsOptions,
  caller: Caller,
  place: TaskPlace,
  turns: Lock,
  signal: AbortSignal,
): Promise<FoundAgent | "refused" | "left"> {
  for (let isFirst = true; ; isFirst = false) {
    const outcome = await turns.run(async () => {
      signal.throwIfAborted();
      if (!options.relay.has(caller)) {
        return "left";
      }
      const asked = await requestProof(options, caller, place, isFirst, signal);
      if (asked === "unknown") {
        await options.clock.sleep(pauseMs, signal);
      }
      return asked;
    }, signal);
    if (outcome !== "unknown") {
      return outcome;
    }
  }
}

async function requestProof(
  options: CalledAgentsOptions,
  caller: Caller,
  place: TaskPlace,
  isFirst: boolean,
  signal: AbortSignal,
): Promise<FoundAgent | "refused" | "unknown"> {
  const { relay, logger } = options;
  const { task, address } = place;
  const about = { container: caller.containerId, task, key: caller.pin };
  try {
    const pin = await prove(options, caller, place, signal);
    logger.debug(about, "an agent that called has proven itself");
    return { address, pin };
  } catch (error) {
    signal.throwIfAborted();
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
    const told = `an agent that called has not proven itself: ${messageOf(error)}`;
    logger[isFirst ? "info" : "debug"]({ ...about, err: error }, told);
    return "unknown";
  }
}

async function prove(
  { relay, authority, proof }: CalledAgentsOptions,
  { containerId, pin: shown }: Caller,
  place: TaskPlace,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const pin = new Uint8Array(Buffer.from(shown, "hex"));
  const agent = createAgentClient(
    { kind: "called", path: relay.path, pin },
    { containerId, credentials: () => authority.credentialsFor(containerId) },
  );
  try {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(proofLimitMs)]);
    await proof.check({ containerId, pin, client: agent.client }, place, limit);
    return pin;
  } finally {
    agent.close();
  }
}
