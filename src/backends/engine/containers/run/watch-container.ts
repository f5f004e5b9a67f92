/**
 * Watches a container: its agent reports events, and once the agent is gone, the driver's records tell how the run
 * ended.
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
import { agentOptions } from "../agent/agent-endpoint.ts";
import { runningContainer } from "../decisions/lookup.ts";
import { AgentLink } from "../live/agent-link.ts";
import type { LiveContainer } from "../live/live.ts";
import { healthAfter, healthName, keptResults } from "../decisions/life/health.ts";
import { type Exit, startedSince } from "../decisions/life/transitions.ts";
import { configOf, hasProcess, stateOf, timestampOfNs, withState } from "../../../model/records.ts";
import { containerExited } from "./container-exit.ts";
import { buryLost, type LaterRun } from "./lost-container.ts";
import { adoptPause } from "./pause-container.ts";

/** Milliseconds without a heartbeat after which the stream counts as cut. */
const silenceMs = 30_000;
/** Time limit of an acknowledgement to an agent. */
const callTimeoutMs = 10_000;
/** Maximum messages of an agent that wait for the disk: a compromised agent may send any number. */
const maxUnwritten = 256;
/** Exit code of a process that ended with 0 because the platform stopped it. */
const unfinishedCode = 255;
/** A result of a health check writes the container's record and three events, which have its labels and the check's command. */
const copiesPerResult = 4;
/** Pauses between attempts to reconnect to an agent. */
const retryDelaysMs = [0, 50, 200] as const;
/** Milliseconds without a message after which the stream counts as cut once the platform has reported the workload's end. */
const lastMessagesMs = 200;
/** Reasons for a cut after which the driver is queried at once. */
const silent = new Error("the agent is silent");
const workloadEnded = new Error("the platform reports the workload's end");
/** The most that an agent is asked for the later start that it says it serves, in one watch: its answer may be lost. */
const mostLaterQuestions = 5;
/** Pause between attempts to reach an agent that is probably alive. */
const longestDelayMs = 5_000;

/** Watches one run until its exit is recorded or the link ends. */
export function watchContainer(context: EngineContext, live: LiveContainer, link: AgentLink): void {
  void context.background.run(`watch container ${live.id}`, async () => {
    const signal = AbortSignal.any([link.ended.signal, context.shutdown]);
    let failures = 0;
    while (!signal.aborted) {
      const begunMs = context.clock.nowMs();
      try {
        await followWatch(context, live, link, signal, () => {
          if (context.clock.nowMs() - begunMs >= longestDelayMs) {
            failures = 0; // Not at its first message: an agent may end each watch right after it.
          }
          link.wasHeard = true;
        });
      } catch (error) {
        if (signal.aborted) {
          return;
        }
        context.logger.debug({ err: error, container: live.id }, "the watch was cut");
        failures = error === silent || error === workloadEnded ? retryDelaysMs.length : failures;
      }
      const delay = retryDelaysMs[failures];
      failures += 1;
      const goOn = (later: LaterRun) => countLater(context, live, link, later);
      if (delay === undefined && (await buryLost(context, live, link.generation, goOn))) {
        return;
      }
      await context.clock.sleep(delay ?? longestDelayMs, signal).catch(() => undefined);
    }
  });
}

/** Reads one stream to its end; returns normally if the agent has left (`released`). */
async function followWatch(
  context: EngineContext,
  live: LiveContainer,
  link: AgentLink,
  signal: AbortSignal,
  heard: () => void,
): Promise<void> {
  const cut = new AbortController();
  let quiet = { limitMs: silenceMs, reason: silent };
  let timer: NodeJS.Timeout | undefined;
  const awaitMessage = (): void => {
    clearTimeout(timer);
    timer = setTimeout(() => cut.abort(quiet.reason), quiet.limitMs).unref();
  };
  const stopTimer = (): void => {
    clearTimeout(timer);
    timer = undefined;
  };
  awaitMessage();
  const unlisten = context.driver.workloads.onEnd(live.id, () => {
    quiet = { limitMs: lastMessagesMs, reason: workloadEnded };
    if (timer !== undefined) {
      awaitMessage();
    }
  });
  let laterQuestions = 0;
  const records = new Records(link, (error) => cut.abort(error));
  try {
    const messages = link.agent.client.watch({}, { signal: AbortSignal.any([signal, cut.signal]) });
    for await (const message of messages) {
      stopTimer(); // The message may wait for the disk.
      heard();
      if (message.generation > link.generation && laterQuestions < mostLaterQuestions) {
        laterQuestions += 1;
        await takeLaterStart(context, live, link);
      }
      link.greeting?.resolve();
      if (!isOfEarlierRun(message, link)) {
        await records.add(message, handleMessage(context, live, link, message));
      }
      awaitMessage();
    }
    await records.written;
  } catch (error) {
    throw cut.signal.reason ?? error;
  } finally {
    unlisten();
    stopTimer();
    cut.abort(); // Removes the call's listeners from the signals.
    // The next watch gets unacknowledged messages again, finds them in the state, and acknowledges them at once.
    await records.written.catch(() => undefined);
  }
}

/**
 * Acknowledges a watch's messages to the agent once they are recorded, if a client waits for that. Starts and ends of
 * execs change the state synchronously, so that many share a write and an acknowledgement, which covers everything
 * before it.
 */
class Records {
  readonly #link: AgentLink;
  readonly #failed: (error: unknown) => void;
  #written: Promise<void> = Promise.resolve();
  #unwritten = 0;
  #wanted: bigint | undefined;
  #isCalling = false;

  /** @param failed called if something cannot be recorded or acknowledged */
  constructor(link: AgentLink, failed: (error: unknown) => void) {
    this.#link = link;
    this.#failed = failed;
  }

  /** Resolves once everything added is recorded. */
  get written(): Promise<void> {
    return this.#written;
  }

  /**
   * Adds the pending write of a message.
   *
   * @returns once the next message can be handled
   */
  async add({ event, sequence, acknowledge }: WatchResponse, recorded: Promise<void>): Promise<void> {
    // A promise chain would keep their values for ever.
    const written = Promise.all([this.#written, recorded]).then(() => undefined);
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

/** Counts a later start that a running container's agent serves, if there is one: it refuses what is meant for an earlier one. */
async function takeLaterStart(context: EngineContext, live: LiveContainer, link: AgentLink): Promise<void> {
  const generation = await context.driver.seals.laterStart(live.id);
  if (generation !== undefined) {
    await countLater(context, live, link, { generation, agent: link.address });
  }
}

/** Counts a later start than the state knew as the container's, if the state still has the run of the link go on. */
async function countLater(
  context: EngineContext,
  live: LiveContainer,
  link: AgentLink,
  later: LaterRun,
): Promise<void> {
  await live.lock.run(async () => {
    const record = runningContainer(context.state, live.id, link.generation);
    if (record === undefined || live.link !== link) {
      return;
    }
    context.logger.warn({ container: live.id }, "a container was started again since the state knew it");
    await context.state.commit((change) => change.containers.put(startedSince(record, later)), "happened");
    const met = new AgentLink(later.agent, later.generation, agentOptions(context, live.id));
    live.run.meet(met);
    watchContainer(context, live, met);
  });
}

/** A lingering agent has served earlier runs, and reports the last one until it is told to start anew. */
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
      if (isOwn(context, live, event.value)) {
        await execStarted(context, event.value.execId, event.value.pid);
      }
      break;
    case "execEnded":
      if (isOwn(context, live, event.value)) {
        await execEnded(context, event.value.execId, event.value.exit?.code);
      }
      break;
    case "health":
      await handleHealth(context, live, link, event.value);
      break;
    case "oom":
      await handleOutOfMemory(context, live, link);
      break;
    case "streamDetached":
      await recordDetached(context, live.id, link, event.value);
      break;
    default:
      break; // `started` is the start's own answer; `released` and heartbeats change nothing.
  }
}

/** Whether an exec belongs to this container: an agent may know the ID of another's. */
function isOwn(
  context: EngineContext,
  live: LiveContainer,
  { execId }: { readonly execId: string },
): boolean {
  return context.state.execs.get(execId)?.containerId === live.id;
}

/** Journals that a client has left a stream served by the agent. Nothing to journal for a removed container. */
async function recordDetached(
  context: EngineContext,
  container: string,
  link: AgentLink,
  { execId }: StreamDetached,
): Promise<void> {
  const record = context.state.containers.get(container);
  if (record !== undefined && link.writes.takes(record, 1, context.clock.nowNs())) {
    await recordStreamUse(context, { container, use: StreamUse.DETACHED, execId });
  }
}

/** Catches up with events missed while not connected. */
async function handleState(
  context: EngineContext,
  live: LiveContainer,
  link: AgentLink,
  state: AgentState,
): Promise<void> {
  await adoptPause(context, live, link, state.paused); // First: what follows may use the allowance up.
  for (const exec of state.runningExecs.filter((each) => isOwn(context, live, each))) {
    await execStarted(context, exec.execId, exec.pid);
  }
  for (const exec of state.endedExecs.filter((each) => isOwn(context, live, each))) {
    await execEnded(context, exec.execId, exec.exit?.code);
  }
  for (const detached of state.detachedStreams) {
    await recordDetached(context, live.id, link, detached);
  }
  if (state.outOfMemory && context.state.containers.get(live.id)?.state?.oomKilled !== true) {
    await handleOutOfMemory(context, live, link);
  }
  const known = context.state.containers.get(live.id);
  const newest = (known && stateOf(known).health?.log.at(-1)?.end) ?? undefined;
  for (const result of state.health.slice(-keptResults)) {
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
    if (!link.writes.takes(record, copiesPerResult, context.clock.nowNs())) {
      return; // A later result is recorded.
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
    const isKnown = stateOf(record).oomKilled;
    if (!link.writes.takes(record, 2, context.clock.nowNs()) && isKnown) {
      return; // The allowance is used up: the process runs out of memory repeatedly.
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
    // A process stopped by its platform may exit with 0 without having finished its work.
    code: status.platformStop && status.code === 0 ? unfinishedCode : status.code,
    oomKilled: status.oomKilled,
    finishedAt: status.finishedAt ?? timestampOfNs(context.clock.nowNs()),
    error: status.platformStop ? "the container was stopped by its platform" : "",
  };
}
