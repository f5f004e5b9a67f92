/** From a task that AWS has promised to an agent that answers. */
import type { ClientCredentials } from "../../../agent-client/address.ts";
import type { Clock } from "../../../common/clock.ts";
import { messageOf, systemError } from "../../../common/errors.ts";
import type { AgentAuthority } from "../../common/driver.ts";
import { learnPin } from "../../common/cloud/first-contact.ts";
import { agentPort } from "../agent-port.ts";
import { isRefusal } from "../aws/errors.ts";
import { failureOfTask, startFailure } from "./reasons.ts";
import type { TaskPoller } from "./poller.ts";
import { StartTimeout } from "./start-limit.ts";
import type { TaskView } from "./task-view.ts";

/** An agent that has answered. */
export interface FoundAgent {
  /** Of the task's network interface. */
  readonly address: string;
  /** SHA-256 of its SubjectPublicKeyInfo. */
  readonly pin: Uint8Array;
}

/** What agents are awaited with. */
export interface AwaitOptions {
  readonly poller: Pick<TaskPoller, "listen" | "hasten">;
  readonly authority: AgentAuthority;
  readonly clock: Clock;
}

/** Right after a start AWS may not know a task; after this long it is lost. */
const missingLimitMs = 60_000;
/** A refusal that lasts so long is AWS's last word: a permission may take a moment to hold everywhere. */
const refusedLimitMs = 5_000;
/** Of the time that an agent has been awaited so far: what a pause may add to it where many are awaited. */
const pauseShare = 1 / 8;
/** A pause puts off the start, and when peers know of it; an attempt that nobody takes costs a sixth of a millisecond. */
const shortestPauseMs = 20;
const longestPauseMs = 500;
/** At all agents together, until the pauses are the longest. */
const attemptsPerSecond = 100;
/** A packet to an address that nobody has yet is dropped without a word, and sent again only after a second. */
const connectShare = 1 / 2;
const shortestConnectMs = 250;
const longestConnectMs = 2_000;
const handshakeLimitMs = 30_000;
/** Ends waits that are over. Made once: the signal's own reason is an error with a stack each time. */
const over = new Error("over");

/**
 * Waits until the agent of a task answers.
 *
 * @throws system or unavailable with AWS's reason: the task stopped before, or AWS refuses to tell of it; the signal's
 *   reason
 */
export async function awaitAgent(
  containerId: string,
  arn: string,
  signal: AbortSignal,
  options: AwaitOptions,
): Promise<FoundAgent> {
  const ended = new AbortController();
  const found = Promise.withResolvers<FoundAgent>();
  const scope = AbortSignal.any([signal, ended.signal]);
  let last: TaskView | undefined;
  let missingSinceMs: number | undefined;
  let refusedSinceMs: number | undefined;
  let failure: unknown;
  let address = "";
  let hastened = false;
  const hear = (view: TaskView | "missing"): void => {
    refusedSinceMs = undefined;
    failure = undefined;
    if (view === "missing") {
      missingSinceMs ??= options.clock.nowMs();
      if (options.clock.nowMs() - missingSinceMs > missingLimitMs) {
        found.reject(startFailure("ECS does not know the task any more"));
      }
      return;
    }
    missingSinceMs = undefined;
    last = view;
    if (view.stopped || (view.stopping && view.stopCode !== "")) {
      found.reject(failureOfTask(view));
    } else if (view.address !== undefined && view.address !== address) {
      address = view.address;
      void dialUntilAnswered(containerId, view.address, scope, options).then(found.resolve, () => {});
    } else if (view.address === undefined && !hastened) {
      hastened = true; // A task gets its address soon after its start, or much later.
      options.poller.hasten();
    }
  };
  const hearFailure = (error: unknown): void => {
    failure = error;
    if (!isRefusal(error)) {
      refusedSinceMs = undefined;
      return;
    }
    refusedSinceMs ??= options.clock.nowMs();
    if (options.clock.nowMs() - refusedSinceMs >= refusedLimitMs) {
      found.reject(startFailure(error.message, error));
    }
  };
  const unlisten = options.poller.listen(arn, hear, hearFailure);
  const abort = (): void => found.reject(abortReason(signal, last, failure));
  signal.addEventListener("abort", abort, { once: true });
  try {
    if (signal.aborted) {
      abort();
    }
    return await found.promise;
  } finally {
    signal.removeEventListener("abort", abort);
    unlisten();
    ended.abort();
  }
}

/** Agents that are dialled, of all backends of this process. */
let dialled = 0;

async function dialUntilAnswered(
  containerId: string,
  address: string,
  signal: AbortSignal,
  options: AwaitOptions,
): Promise<FoundAgent> {
  dialled += 1;
  try {
    return await dialAgainAndAgain(containerId, address, signal, options);
  } finally {
    dialled -= 1;
  }
}

async function dialAgainAndAgain(
  containerId: string,
  address: string,
  signal: AbortSignal,
  { authority, clock }: AwaitOptions,
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
      // It is not there yet; the task's end is heard of elsewhere.
    }
    const longestMs = Math.min(
      longestPauseMs,
      Math.max(shortestPauseMs, (dialled * 1000) / attemptsPerSecond),
    );
    await clock.sleep(share(pauseShare, shortestPauseMs, longestMs), signal);
  }
}

/**
 * One attempt. The limit is for an address that nobody has: a busy machine takes its time for a handshake, and would take
 * longer still for its repetitions.
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
      // What this process has not come to read yet counts.
      () => setImmediate(() => unless.aborted || limit.abort(over)),
      () => {},
    );
  };
  giveUpAfter(limitMs, AbortSignal.any([ended.signal, reached.signal]));
  try {
    const scope = AbortSignal.any([signal, limit.signal]);
    return await learnPin({ host: address, port: agentPort }, credentials, scope, () => {
      reached.abort(over);
      giveUpAfter(handshakeLimitMs, ended.signal);
    });
  } finally {
    ended.abort(over);
  }
}

/**
 * What was reached in the time that a start may take.
 *
 * @param failure of the last look at the task; undefined: AWS has answered
 */
function abortReason(signal: AbortSignal, last: TaskView | undefined, failure: unknown): unknown {
  if (!(signal.reason instanceof StartTimeout)) {
    return signal.reason;
  }
  if (failure !== undefined) {
    const before = last === undefined ? "" : ` (it was ${last.status} before)`;
    return systemError(
      `${messageOf(signal.reason)}: ECS does not tell of it${before}: ${messageOf(failure)}`,
      failure,
    );
  }
  const state =
    last === undefined
      ? "ECS does not show it"
      : last.address === undefined
        ? `it is ${last.status}`
        : `it is ${last.status}, and its agent does not answer at ${last.address}:${agentPort} (do its security groups let this backend in?)`;
  return systemError(`${messageOf(signal.reason)}: ${state}`, signal.reason);
}
