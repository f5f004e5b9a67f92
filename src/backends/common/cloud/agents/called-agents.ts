/** Agents that call: they are waited for, asked to prove themselves, and from then on known by their key. */
import { createAgentClient } from "../../../../agent-client/client.ts";
import type { Clock } from "../../../../common/clock.ts";
import { fromUnknown, messageOf } from "../../../../common/errors.ts";
import type { Logger } from "../../../../common/logger.ts";
import type { ContainerTraffic } from "../../driver.ts";
import { directTraffic } from "../../ready-made-roles.ts";
import type { CloudAuthority } from "../authority.ts";
import type { Caller } from "../callback/relay-messages.ts";
import type { Relay } from "../callback/relay.ts";
import type { AgentFinder, FoundAgent, TaskPlace } from "./agent-finder.ts";
import type { AgentProof } from "./agent-proof.ts";

/** Parts of the backend that waiting for agents needs. */
export interface CalledAgentsOptions {
  readonly relay: Pick<Relay, "path" | "callersOf" | "refuse" | "allow">;
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

/** Time that an agent has to prove itself. */
const proofLimitMs = 15_000;
/** Pause after a proof that could be neither had nor refused. */
const pauseMs = 1_000;

/** Reaches agents by the connections that they make. */
export function calledAgents(options: CalledAgentsOptions): AgentFinder {
  const { relay, url } = options;
  const firstProven = (containerId: string, place: TaskPlace, signal: AbortSignal): Promise<FoundAgent> =>
    meetFirstProven(options, containerId, place, signal);
  return {
    traffic: options.reachOneAnother ? directTraffic : relayedBy(relay),
    addressOf: ({ pin }) => ({ kind: "called", path: relay.path, pin }),
    containerAddressOf: ({ address }) => (options.reachOneAnother ? address : ""),
    await: firstProven,
    meet: firstProven,
    describeSilence: () => `its agent has not called ${url} (does its network let it get there?)`,
  };
}

/** Traffic that goes through the relay which agents call. */
function relayedBy(relay: Pick<Relay, "allow">): ContainerTraffic {
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
  const { relay, clock, logger } = options;
  const elsewhere = new Set<string>();
  for await (const caller of relay.callersOf(containerId, signal)) {
    if (elsewhere.has(caller.pin)) {
      continue; // It waits for whoever asks for its own task.
    }
    const about = { container: containerId, task: place.task, key: caller.pin };
    try {
      const pin = await prove(options, caller, place, signal);
      logger.debug(about, "an agent that called has proven itself");
      return { address: place.address, pin };
    } catch (error) {
      signal.throwIfAborted();
      const { kind } = fromUnknown(error);
      if (kind === "conflict") {
        elsewhere.add(caller.pin);
        logger.info(about, `an agent that called is another task's: ${messageOf(error)}`);
      } else if (kind === "forbidden") {
        relay.refuse(caller);
        logger.warn(about, `an agent that called is not whom it claims to be: ${messageOf(error)}`);
      } else {
        logger.info(
          { ...about, err: error },
          `an agent that called has not proven itself: ${messageOf(error)}`,
        );
        await clock.sleep(pauseMs, signal);
      }
    }
  }
  throw signal.reason;
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
