/**
 * Watching a container: its agent tells what happens, and when the agent cannot be reached any more, the driver's
 * records tell how it ended.
 */
import type {
  ContainerState as AgentState,
  ExitStatus,
  HealthResult,
  StreamDetached,
  WatchResponse,
} from "../../../../gen/sockerless/agent/v1/agent_pb.ts";
import { ContainerStatus, StreamUse } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import type { EngineContext } from "../../context.ts";
import { containerEvent } from "../../events/decisions/container-events.ts";
import { probeEvents } from "../../events/decisions/probe-events.ts";
import { execEnded, execStarted } from "../../execs/exec-ends.ts";
import { recordStreamUse } from "../streams/record-stream-use.ts";
import type { AgentLink } from "../live/agent-link.ts";
import type { LiveContainer } from "../live/live.ts";
import { healthAfter, healthName } from "../decisions/life/health.ts";
import type { Exit } from "../decisions/life/transitions.ts";
import { configOf, hasProcess, stateOf, timestampOfNs, withState } from "../../../model/records.ts";
import { containerExited } from "./container-exit.ts";
import { buryLost } from "./lost-container.ts";
import { adoptPause } from "./pause-container.ts";

/** How long a receiver waits for a heartbeat before it takes the stream as cut. */
const silenceMs = 30_000;
/** How long an agent may take to be told that what it told is recorded. */
const callTimeoutMs = 10_000;
/** Messages of an agent that may wait for the disk at once: one that was taken over tells as many as it likes. */
const maxUnwritten = 256;
/** Exit code on record for a process that ended with 0 because its platform stopped it. */
const unfinishedCode = 255;
/** Pauses between attempts to reach an agent again. */
const retryDelaysMs = [0, 50, 200] as const;
/** An agent has told nothing for {@link silenceMs}: the driver is asked at once. */
const silent = new Error("the agent is silent");
/** Pause between attempts to reach an agent that may well be alive. */
const longestDelayMs = 5_000;

/** Watches one run, until it has exited and been recorded or the link ends. */
export function watchContainer(context: EngineContext, live: LiveContainer, link: AgentLink): void {
  void context.background.run(`watch container ${live.id}`, async () => {
    const signal = AbortSignal.any([link.ended.signal, context.shutdown]);
    let failures = 0;
    while (!signal.aborted) {
      try {
        await followWatch(context, live, link, signal, () => {
          failures = 0;
          link.wasHeard = true;
        });
      } catch (error) {
        if (signal.aborted) {
          return;
        }
        context.logger.debug({ err: error, container: live.id }, "the watch was cut");
        failures = error === silent ? retryDelaysMs.length : failures;
      }
      const delay = retryDelaysMs[failures];
      failures += 1;
      if (delay === undefined && (await buryLost(context, live, link.generation))) {
        return;
      }
      await context.clock.sleep(delay ?? longestDelayMs, signal).catch(() => undefined);
    }
  });
}

/** Follows one stream to its end; returns without an error when the agent has left (`released`). */
async function followWatch(
  context: EngineContext,
  live: LiveContainer,
  link: AgentLink,
  signal: AbortSignal,
  heard: () => void,
): Promise<void> {
  const silence = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const restartTimer = (): void => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(silent), silenceMs).unref();
  };
  restartTimer();
  const records = new Records(link, (error) => silence.abort(error));
  try {
    const messages = link.agent.client.watch({}, { signal: AbortSignal.any([signal, silence.signal]) });
    for await (const message of messages) {
      restartTimer();
      heard();
      if (!isOfEarlierRun(message, link)) {
        await records.add(message, handleMessage(context, live, link, message));
      }
    }
    await records.written;
  } catch (error) {
    throw silence.signal.reason ?? error;
  } finally {
    clearTimeout(timer);
    silence.abort(); // Lets go of what the call left on the signals.
    // The next watch is told again what was not acknowledged, finds it in the state, and acknowledges that at once.
    await records.written.catch(() => undefined);
  }
}

/**
 * Waits for what a watch has told to be on record, and tells the agent where a client waits for it. Starts and ends of execs
 * change the state in the step that hears of them: many at once share a write and an acknowledgement, which means everything
 * before it too.
 */
class Records {
  readonly #link: AgentLink;
  readonly #failed: (error: unknown) => void;
  #written: Promise<void> = Promise.resolve();
  #unwritten = 0;
  #wanted: bigint | undefined;
  #isCalling = false;

  /** @param failed called where something cannot be recorded, or the agent cannot be told */
  constructor(link: AgentLink, failed: (error: unknown) => void) {
    this.#link = link;
    this.#failed = failed;
  }

  /** Resolves once everything that was added is on record. */
  get written(): Promise<void> {
    return this.#written;
  }

  /**
   * Adds what is being recorded of a message.
   *
   * @returns once the next message can be handled
   */
  async add({ event, sequence, acknowledge }: WatchResponse, recorded: Promise<void>): Promise<void> {
    const written = Promise.all([this.#written, recorded]).then(() => undefined); // Their values would be kept for ever.
    this.#written = written;
    this.#unwritten += 1;
    written.then(() => {
      this.#unwritten -= 1;
      if (acknowledge) {
        this.#acknowledge(sequence);
      }
    }, this.#failed);
    const isOfExec = event.case === "execStarted" || event.case === "execEnded";
    if (!isOfExec || this.#unwritten >= maxUnwritten) {
      await written;
    }
  }

  #acknowledge(sequence: bigint): void {
    this.#wanted = sequence;
    if (!this.#isCalling) {
      this.#isCalling = true;
      void this.#tell().catch(this.#failed);
    }
  }

  async #tell(): Promise<void> {
    while (this.#wanted !== undefined) {
      const sequence = this.#wanted;
      this.#wanted = undefined;
      await this.#link.agent.client.acknowledge({ sequence }, { timeoutMs: callTimeoutMs });
    }
    this.#isCalling = false;
  }
}

/** An agent that lingers has served runs before this one, and tells of the last until it is told to start anew. */
export function isOfEarlierRun({ generation }: WatchResponse, link: AgentLink): boolean {
  return generation !== 0n && generation < link.generation;
}

async function handleMessage(
  context: EngineContext,
  live: LiveContainer,
  link: AgentLink,
  { event }: WatchResponse,
): Promise<void> {
  switch (event.case) {
    case "state":
      await handleState(context, live, link, event.value);
      break;
    case "exited":
      await containerExited(context, live, link.generation, exitOf(context, event.value));
      break;
    case "execStarted":
      await execStarted(context, event.value.execId, event.value.pid);
      break;
    case "execEnded":
      await execEnded(context, event.value.execId, event.value.exit?.code);
      break;
    case "health":
      await handleHealth(context, live, link, event.value);
      break;
    case "oom":
      await handleOutOfMemory(context, live, link);
      break;
    case "streamDetached":
      await recordDetached(context, live.id, event.value);
      break;
    default:
      break; // `started` is the start's own answer; `released` and heartbeats change nothing.
  }
}

/** Journals that a client has left a stream that its agent carries. Of a container that is gone there is nothing to tell. */
async function recordDetached(
  context: EngineContext,
  container: string,
  { execId }: StreamDetached,
): Promise<void> {
  if (context.state.containers.get(container) !== undefined) {
    await recordStreamUse(context, { container, use: StreamUse.DETACHED, execId });
  }
}

/** Catches up with what the watcher has missed while it was away. */
async function handleState(
  context: EngineContext,
  live: LiveContainer,
  link: AgentLink,
  state: AgentState,
): Promise<void> {
  for (const { execId, pid } of state.runningExecs) {
    await execStarted(context, execId, pid);
  }
  for (const { execId, exit } of state.endedExecs) {
    await execEnded(context, execId, exit?.code);
  }
  for (const detached of state.detachedStreams) {
    await recordDetached(context, live.id, detached);
  }
  if (state.outOfMemory && context.state.containers.get(live.id)?.state?.oomKilled !== true) {
    await handleOutOfMemory(context, live, link);
  }
  await adoptPause(context, live, link.generation, state.paused);
  const known = context.state.containers.get(live.id);
  const newest = (known && stateOf(known).health?.log.at(-1)?.end) ?? undefined;
  for (const result of state.health) {
    if (newest === undefined || (result.end !== undefined && isLater(result.end, newest))) {
      await handleHealth(context, live, link, result);
    }
  }
  if (state.exit !== undefined) {
    await containerExited(context, live, link.generation, exitOf(context, state.exit));
  }
}

function isLater(
  a: { readonly seconds: bigint; readonly nanos: number },
  b: { readonly seconds: bigint; readonly nanos: number },
): boolean {
  return a.seconds > b.seconds || (a.seconds === b.seconds && a.nanos > b.nanos);
}

async function handleHealth(
  context: EngineContext,
  live: LiveContainer,
  link: AgentLink,
  result: HealthResult,
): Promise<void> {
  await live.lock.run(async () => {
    const record = context.state.containers.get(live.id);
    const check = record && configOf(record).healthcheck;
    if (record === undefined || check === undefined || !isRun(record, link)) {
      return;
    }
    const { health, startedAt, status } = stateOf(record);
    if (status === ContainerStatus.PAUSED) {
      return; // A check that was under way when the container was frozen; a frozen container counts as unhealthy.
    }
    const after = healthAfter(health, check, startedAt, result);
    const next = withState(record, { health: after });
    await context.state.commit((change) => {
      change.containers.put(next);
      for (const event of probeEvents(record, result, context.clock.nowNs())) {
        change.event(event);
      }
      if (after.status !== health?.status) {
        change.event(containerEvent(record, `health_status: ${healthName(after.status)}`));
      }
    }, "happened");
  });
}

async function handleOutOfMemory(
  context: EngineContext,
  live: LiveContainer,
  link: AgentLink,
): Promise<void> {
  await live.lock.run(async () => {
    const record = context.state.containers.get(live.id);
    if (record === undefined || !isRun(record, link)) {
      return;
    }
    const next = withState(record, { oomKilled: true });
    await context.state.commit((change) => {
      change.containers.put(next);
      change.event(containerEvent(record, "oom"));
    }, "happened");
  });
}

function isRun(record: Parameters<typeof hasProcess>[0], link: AgentLink): boolean {
  return record.generation === link.generation && hasProcess(record);
}

function exitOf(context: EngineContext, status: ExitStatus): Exit {
  return {
    // A process that its platform cut off may have ended in good order, yet it has not done its work.
    code: status.platformStop && status.code === 0 ? unfinishedCode : status.code,
    oomKilled: status.oomKilled,
    finishedAt: status.finishedAt ?? timestampOfNs(context.clock.nowNs()),
    error: status.platformStop ? "the container was stopped by its platform" : "",
  };
}
