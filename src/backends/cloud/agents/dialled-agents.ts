/** Listening agents: dialled at the addresses that the cloud reports for their tasks. */
import { isIPv6 } from "node:net";

import type { ClientCredentials } from "../../../agent-client/address.ts";
import type { Clock } from "../../../common/clock.ts";
import { agentsDialled, directTraffic } from "../../driver/ready-made-roles.ts";
import type { CloudAuthority } from "../authority/authority.ts";
import { learnPin } from "../authority/first-contact.ts";
import { agentPort } from "./agent-port.ts";
import type { AgentFinder, FoundAgent } from "../contract/agent-finder.ts";

/** Dependencies of dialling. */
export interface DialOptions {
  readonly authority: Pick<CloudAuthority, "credentialsFor">;
  readonly clock: Clock;
  /** A hint for the operator if agents do not answer: `do its … let this backend in?` */
  readonly hint: string;
}

/** A pause, as a share of the time waited so far, within the limits below. */
const pauseShare = 1 / 8;
/** A pause delays the start, while an unanswered attempt costs a sixth of a millisecond. */
const shortestPauseMs = 20;
const longestPauseMs = 500;
/** Maximum rate of attempts at all agents together; exceeded only once all pauses have their maximum. */
const attemptsPerSecond = 100;
/**
 * Time limit of an attempt, as a share of the time waited so far: a packet to an unassigned address is dropped
 * silently, and resent only after a second.
 */
const connectShare = 1 / 2;
const shortestConnectMs = 250;
const longestConnectMs = 2_000;
const handshakeLimitMs = 30_000;
/** Abort reason of finished waits. Created once, as a default reason is an error with a stack each time. */
const over = new Error("over");

/** Reaches agents by dialling them. */
export function dialledAgents(options: DialOptions): AgentFinder {
  const { authority, hint } = options;
  return {
    traffic: directTraffic,
    agentReach: agentsDialled,
    addressOf: ({ address, pin }) => ({ kind: "tcp", host: address, port: agentPort, pin }),
    containerAddressOf: ({ address }) => address,
    await: (containerId, { address }, signal) => dialUntilAnswered(containerId, address, signal, options),
    async meet(containerId, { address }, signal) {
      const credentials = await authority.credentialsFor(containerId);
      return { address, pin: await learnPin({ host: address, port: agentPort }, credentials, signal) };
    },
    forget: () => {},
    describeSilence: (address) =>
      `its agent does not answer at ${isIPv6(address) ? `[${address}]` : address}:${agentPort} (${hint})`,
  };
}

/** Agents being dialled, of all backends of this process. */
let dialled = 0;

async function dialUntilAnswered(
  containerId: string,
  address: string,
  signal: AbortSignal,
  options: DialOptions,
): Promise<FoundAgent> {
  dialled += 1;
  try {
    return await dialRepeatedly(containerId, address, signal, options);
  } finally {
    dialled -= 1;
  }
}

async function dialRepeatedly(
  containerId: string,
  address: string,
  signal: AbortSignal,
  { authority, clock }: DialOptions,
): Promise<FoundAgent> {
  const begunMs = clock.nowMs();
  const share = (of: number, least: number, most: number): number =>
    Math.min(most, Math.max(least, (clock.nowMs() - begunMs) * of));
  for (;;) {
    signal.throwIfAborted();
    try {
      const credentials = await authority.credentialsFor(containerId);
      const limitMs = share(connectShare, shortestConnectMs, longestConnectMs);
      return { address, pin: await attempt(address, credentials, limitMs, signal, clock) };
    } catch {
      // It is not up yet; the task's end is detected elsewhere.
    }
    const longestMs = Math.min(
      longestPauseMs,
      Math.max(shortestPauseMs, (dialled * 1000) / attemptsPerSecond),
    );
    await clock.sleep(share(pauseShare, shortestPauseMs, longestMs), signal);
  }
}

/**
 * Makes one attempt. The limit only covers the connection, since it is meant for unassigned addresses: on a busy
 * machine repeated handshakes would take longer than one slow handshake.
 */
async function attempt(
  address: string,
  credentials: ClientCredentials,
  limitMs: number,
  signal: AbortSignal,
  clock: Clock,
): Promise<Uint8Array> {
  const ended = new AbortController();
  const reached = new AbortController();
  const limit = new AbortController();
  const giveUpAfter = (ms: number, unless: AbortSignal): void => {
    clock.sleep(ms, unless).then(
      // An answer that has arrived but is not read yet is in time.
      () => setImmediate(() => unless.aborted || limit.abort(over)),
      () => {},
    );
  };
  giveUpAfter(limitMs, AbortSignal.any([ended.signal, reached.signal]));
  try {
    const scope = AbortSignal.any([signal, limit.signal]);
    const onReached = (): void => {
      reached.abort(over);
      giveUpAfter(handshakeLimitMs, ended.signal);
    };
    return await learnPin({ host: address, port: agentPort }, credentials, scope, onReached, clock);
  } finally {
    ended.abort(over);
  }
}
