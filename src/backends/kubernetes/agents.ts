/**
 * Agents of pods: reached at their addresses, through the API server, or by the connections that they open. Through the API
 * server, a gate on a unix socket joins those who ask for an agent with a port forward into its pod, and reads nothing of what
 * passes: that is TLS between the two. A port forward that is cut is followed by another, since what it carries is a link
 * (docs/formats.md).
 */
import { chmod, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server } from "node:http";
import { type Duplex, pipeline } from "node:stream";

import { agentPinHeader } from "../../agent-client/dial.ts";
import type { Clock } from "../../common/clock.ts";
import { messageOf } from "../../common/errors.ts";
import { forgetOldest } from "../../common/forget-oldest.ts";
import type { Logger } from "../../common/logger.ts";
import { agentPort } from "../cloud/agents/agent-port.ts";
import { type DialOptions, dialledAgents } from "../cloud/agents/dialled-agents.ts";
import type { CloudAuthority } from "../cloud/authority/authority.ts";
import { learnPin } from "../cloud/authority/first-contact.ts";
import { type BackendRelayOptions, openRelay } from "../cloud/callback/backend-relay.ts";
import type { AgentFinder, FoundAgent, TaskPlace } from "../cloud/contract/agent-finder.ts";
import { agentsDialled, directTraffic } from "../driver/ready-made-roles.ts";
import type { KubernetesClient } from "./api/client.ts";
import { isMissing } from "./api/errors.ts";
import { forwardPort } from "./api/port-forward.ts";
import { parseAddress } from "./names.ts";

/** Agents of pods. */
export interface PodAgents {
  readonly finder: AgentFinder;
  close(): Promise<void>;
}

/** Parts of {@link podAgents}. */
export interface PodAgentsOptions {
  readonly client: KubernetesClient;
  readonly authority: Pick<CloudAuthority, "credentialsFor">;
  /** Unix socket of the gate. */
  readonly path: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** A way into a pod is had in this time, or is asked for again. */
const forwardLimitMs = 30_000;
const firstPauseMs = 50;
const longestPauseMs = 1_000;

/** Keys that are remembered once their agents are gone; later ones take the place of the oldest. */
const maxForgotten = 10_000;

/** Pods by the keys of their agents, hexadecimal. After a restart they are unknown until the backend looks for their agents. */
class PodKeys {
  readonly #pods = new Map<string, string>();
  readonly #forgotten = new Set<string>();

  add(key: string, pod: string): void {
    this.#pods.set(key, pod);
    this.#forgotten.delete(key);
  }

  of(key: string): string | undefined {
    return this.#pods.get(key);
  }

  forget(key: string): void {
    this.#pods.delete(key);
    this.#forgotten.add(key);
    forgetOldest(this.#forgotten, maxForgotten);
  }

  isForgotten(key: string): boolean {
    return this.#forgotten.has(key);
  }
}

/** Opens the gate. @throws system: its socket cannot be had */
export async function podAgents(options: PodAgentsOptions): Promise<PodAgents> {
  const { client, authority, path, clock } = options;
  const pods = new PodKeys();
  const gate = await openGate(options, pods);

  const { await: awaitPod, meet } = forwardedAgents({ client, authority, clock });

  return {
    finder: {
      traffic: directTraffic,
      agentReach: agentsDialled,
      addressOf({ address, pin }) {
        pods.add(hexOf(pin), parseAddress(address).pod);
        return { kind: "called", path, pin };
      },
      containerAddressOf: ({ address }) => parseAddress(address).ip,
      await: awaitPod,
      meet,
      forget: (_containerId, { pin }) => pods.forget(hexOf(pin)),
      describeSilence: (address) =>
        `its agent does not answer in pod ${parseAddress(address).pod} (may this backend get and create pods/portforward?)`,
    },
    async close() {
      gate.close();
      gate.closeAllConnections();
      await rm(path, { force: true });
    },
  };
}

/** The keys of agents, learned by port forwards into their pods. */
export function forwardedAgents({
  client,
  authority,
  clock,
}: Pick<PodAgentsOptions, "client" | "authority" | "clock">): Pick<AgentFinder, "await" | "meet"> {
  const meet: AgentFinder["meet"] = async (containerId, { address }, signal) => {
    const { pod } = parseAddress(address);
    const credentials = await authority.credentialsFor(containerId);
    const limited = AbortSignal.any([signal, AbortSignal.timeout(forwardLimitMs)]);
    const socket = await forwardPort(client, pod, agentPort, limited);
    return { address, pin: await learnPin({ socket, name: `pod ${pod}` }, credentials, limited) };
  };
  return {
    meet,
    async await(containerId, place, signal) {
      for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(pauseMs * 2, longestPauseMs)) {
        signal.throwIfAborted();
        try {
          return await meet(containerId, place, signal);
        } catch {
          // It is not there yet; the pod's end is heard of elsewhere.
        }
        await clock.sleep(pauseMs, signal);
      }
    },
  };
}

/**
 * Agents that call this backend. A pod's own key is learned by a port forward into it, so that whoever calls is known by the key
 * that it shows.
 *
 * @throws system: the address, or a socket, cannot be had
 */
export async function callingPods(options: PodAgentsOptions & BackendRelayOptions): Promise<PodAgents> {
  const { client, authority, clock, url, path } = options;
  const relay = await openRelay(options);
  const { await: awaitPod, meet: meetPod } = forwardedAgents({ client, authority, clock });

  /** Waits until the agent of that key has called. */
  const called = async (containerId: string, agent: FoundAgent, signal: AbortSignal): Promise<FoundAgent> => {
    for await (const caller of relay.callersOf(containerId, signal)) {
      if (caller.pin === hexOf(agent.pin)) {
        return agent;
      }
    }
    throw signal.reason;
  };
  const found =
    (look: typeof awaitPod) =>
    async (containerId: string, place: TaskPlace, signal: AbortSignal): Promise<FoundAgent> =>
      called(containerId, await look(containerId, place, signal), signal);
  return {
    finder: {
      traffic: directTraffic,
      agentReach: agentsDialled,
      addressOf: ({ pin }) => ({ kind: "called", path, pin }),
      containerAddressOf: ({ address }) => parseAddress(address).ip,
      await: found(awaitPod),
      meet: found(meetPod),
      forget: (containerId, { pin }) => relay.refuse({ containerId, pin: hexOf(pin) }),
      describeSilence: (address) =>
        `its agent in pod ${parseAddress(address).pod} has not called ${url} (do pods get there?), or is not reached by pods/portforward`,
    },
    close: () => relay.close(),
  };
}

/** Agents that listen at the addresses of their pods, which this backend reaches. */
export function dialledPods(options: Omit<DialOptions, "hint">): PodAgents {
  const hint = "does it reach pods at their addresses, and does no NetworkPolicy keep it out?";
  const dialled = dialledAgents({ ...options, hint });
  const ipOf = ({ address }: { readonly address: string }): string => parseAddress(address).ip;
  return {
    finder: {
      ...dialled,
      addressOf: (agent) => dialled.addressOf({ ...agent, address: ipOf(agent) }),
      containerAddressOf: ipOf,
      async await(containerId, place, signal) {
        const found = await dialled.await(containerId, { ...place, address: ipOf(place) }, signal);
        return { ...found, address: place.address };
      },
      async meet(containerId, place, signal) {
        const found = await dialled.meet(containerId, { ...place, address: ipOf(place) }, signal);
        return { ...found, address: place.address };
      },
      describeSilence: (address) => dialled.describeSilence(ipOf({ address })),
    },
    close: () => Promise.resolve(),
  };
}

async function openGate(options: PodAgentsOptions, pods: PodKeys): Promise<Server> {
  const { path } = options;
  await rm(path, { force: true });
  const gate = createServer((_request, response) => {
    response.writeHead(405).end();
  });
  gate.on("connect", (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    void join(options, pods, request, socket, head);
  });
  await new Promise<void>((resolve, reject) => {
    gate.once("error", reject);
    gate.listen(path, resolve);
  });
  await chmod(path, 0o600);
  return gate;
}

async function join(
  { client, logger }: PodAgentsOptions,
  pods: PodKeys,
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): Promise<void> {
  const gone = new AbortController();
  socket.on("error", () => {});
  socket.once("close", () => gone.abort());
  const key = String(request.headers[agentPinHeader]);
  const pod = pods.of(key);
  try {
    if (pod === undefined) {
      const status = pods.isForgotten(key) ? "410 the agent is gone" : "503 the agent is not known yet";
      socket.end(`HTTP/1.1 ${status}\r\n\r\n`);
      return;
    }
    const signal = AbortSignal.any([gone.signal, AbortSignal.timeout(forwardLimitMs)]);
    const forward = await forwardPort(client, pod, agentPort, signal);
    socket.write("HTTP/1.1 200 OK\r\n\r\n");
    forward.write(head);
    pipeline(socket, forward, () => {});
    pipeline(forward, socket, () => forward.destroy());
  } catch (error) {
    logger.debug({ pod, err: error }, `a pod is not reached: ${messageOf(error)}`);
    const isGone = isMissing(error) && pod !== undefined && (await isDeleted(client, pod));
    socket.end(`HTTP/1.1 ${isGone ? "410 the pod is gone" : "503 the pod is not reached"}\r\n\r\n`);
  }
}

/** Whether a pod is gone: a kubelet that has just begun answers 404 for those that run, too. */
async function isDeleted(client: KubernetesClient, name: string): Promise<boolean> {
  const { core, namespace } = client;
  return await client
    .call("get pods", (options) => core.readNamespacedPod({ name, namespace }, options))
    .then(() => false, isMissing);
}

function hexOf(pin: Uint8Array): string {
  return Buffer.from(pin).toString("hex");
}
