/**
 * Tasks that wait for containers, at a cost. The cloud has the records: it is asked which tasks wait, so that a
 * starting backend finds them; the data here is only the result of the last query.
 */
import { timestampFromMs } from "@bufbuild/protobuf/wkt";

import type { Clock } from "../../../common/clock.ts";
import { messageOf } from "../../../common/errors.ts";
import { newId, shortId } from "../../../common/ids.ts";
import type { Logger } from "../../../common/logger.ts";
import { preparedAsked, type PreparedOutcome } from "../../../common/metrics/measure.ts";
import { after } from "../../../common/timers.ts";
import { unlessAborted } from "../../concurrency/unless-aborted.ts";
import { preparedStart } from "../authority/call-token.ts";
import type { Sealer } from "../authority/seal.ts";
import type { AgentFinder, FoundAgent } from "../contract/agent-finder.ts";
import { isRefusal } from "../contract/cloud-error.ts";
import { type CloudTasks, RequestStale, type TaskView } from "../contract/cloud-tasks.ts";
import type { Claimant, Prepared, PreparedTasks } from "../contract/prepared-tasks.ts";
import type { PreparedWorkloads } from "../../driver/prepared.ts";
import type { WorkloadSpec } from "../../driver/workload-spec.ts";
import { awaitAgent } from "../tasks/await-agent.ts";
import { isLack } from "../tasks/task-end.ts";
import { describeAll, whole } from "../tasks/describe-all.ts";
import type { TaskPoller } from "../tasks/poller.ts";
import type { TaskBook } from "../tasks/task-book.ts";
import { BringUps } from "./bring-ups.ts";
import type { LearnedPool } from "./learned.ts";
import { inWords, type PoolReport } from "./report.ts";
import type { Spending } from "./spending.ts";
import type { Wanted } from "./templates.ts";

/** Settings and dependencies of a pool. */
export interface PoolOptions {
  readonly cloud: CloudTasks;
  readonly prepared: PreparedTasks;
  readonly poller: Pick<TaskPoller, "listen" | "hasten">;
  readonly finder: Pick<AgentFinder, "await" | "describeSilence">;
  readonly book: Pick<TaskBook, "all">;
  /** This instance's name, which identifies its tasks. */
  readonly instance: string;
  /**
   * Determines the tasks to keep waiting; undefined: none are prepared, and those of an earlier backend are stopped.
   */
  readonly wanted: (() => Promise<readonly Wanted[]>) | undefined;
  /** Whether a start waits for room in the quota: none are prepared meanwhile. */
  readonly isRoomAwaited: () => boolean;
  /** Learns from reported starts. */
  readonly learned?: Pick<LearnedPool, "started" | "refused"> | undefined;
  readonly spending: Pick<Spending, "count" | "add" | "isSpent" | "isDaySpent" | "save" | "today" | "limits">;
  /** The cost of one hour of a request's task, in the prices' currency; 0 if unknown. */
  readonly costOf: (request: string) => number;
  /** The prices' currency; empty if prices are unknown. */
  readonly currency: string;
  readonly maxTasks: number;
  readonly maxAgeMs: number;
  readonly startTimeoutMs: number;
  /** Tokens of agents that call. */
  readonly callToken: Sealer["callToken"];
  /** Receives the changes of each task, for subscribers of events. */
  readonly tell?: (event: PoolEvent) => void;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** A change of a prepared task. */
export interface PoolEvent {
  readonly task: string;
  /** The containers that it is for, as in the configuration; empty once it is no longer wanted. */
  readonly kind: string;
  readonly happened: "waits" | "taken" | "stopped";
  /** Why it is stopped; empty for other changes. */
  readonly reason: string;
}

/** A task that waits to be claimed. */
interface Member {
  readonly task: string;
  readonly name: string;
  readonly shape: string;
  readonly createdMs: number;
  /** When this process began to wait for its agent. */
  readonly awaitedSinceMs: number;
  /** From this time on no container takes it. */
  readonly claimableUntilMs: number;
  readonly costPerHour: number;
  /** Aborts when it is claimed or stopped. */
  readonly left: AbortController;
  /** Resolves to true once its agent has answered, to false once that is no longer expected. */
  readonly answered: PromiseWithResolvers<boolean>;
  /** Undefined until its agent has answered. */
  agent: FoundAgent | undefined;
  /** When a start began to wait for its agent: no other start gets it, and its cost counts as that start's. */
  reservedMs: number | undefined;
}

/** The agent of a task that a start has taken. */
export interface TakenAgent extends FoundAgent {
  /** Whether the start has waited for it. */
  readonly isAwaited: boolean;
}

/** Tasks of one shape to keep waiting. */
interface Asked {
  readonly request: string;
  readonly kind: string;
  readonly least: number;
  readonly most: number;
}

/** Interval of rounds. */
const roundMs = 10_000;
/** A day's limit must cover all waiting tasks for this long: until the next rounds have stopped them. */
const reserveMs = 2 * roundMs;
/** Pause after a claim: the starts of a burst take precedence. */
const refillPauseMs = 1_000;
/** Pause of preparation after a start found no room, or the cloud refused a task. */
const restMs = 60_000;
/** Time within which a new task appears in listings. */
const listedWithinMs = 60_000;
/** Additional time of an agent beyond the age at which its task is stopped; after that it ends by itself. */
const agentMarginMs = 120_000;
/** Maximum time for which an agent can be told to wait. */
const longestWaitMs = 7 * 24 * 60 * 60_000;
const limitReached = "the day's limit is reached";
/** Created once, as a default reason is an error with a stack each time. */
const over = new Error("over");

/** Keeps the wanted tasks waiting. */
export class Pool implements PreparedWorkloads {
  readonly #options: PoolOptions;
  readonly #members = new Map<string, Member>();
  /** Tasks taken by starts that no record names yet. */
  readonly #taken = new Set<string>();
  /** Tasks to be stopped, with the reason. */
  readonly #doomed = new Map<string, string>();
  /** Agents of tasks taken by starts. */
  readonly #agents = new Map<string, TakenAgent>();
  /** Shapes of pending requests, by name. */
  readonly #asked = new Map<string, string>();
  readonly #closed = new AbortController();
  readonly #work = new Set<Promise<void>>();
  readonly #bringUps = new BringUps();
  /** Hourly cost by shape, of all tasks that were ever wanted. */
  readonly #costs = new Map<string, number>();
  /** Wanted tasks by shape, as of the last round. */
  #wanted: ReadonlyMap<string, Asked> = new Map();
  #wake = new AbortController();
  #restsUntilMs = 0;

  constructor(options: PoolOptions) {
    this.#options = options;
    if (options.wanted !== undefined) {
      this.#track(this.#keep(options.wanted));
    }
  }

  /** Records a container's start, whether or not a task waits for it. */
  started(spec: WorkloadSpec, request: string): void {
    this.#options.learned?.started(spec, request);
  }

  /**
   * Takes a prepared task for a container's request, exclusively. If none waits, one that is coming up is waited for
   * until it is late, as it began earlier than a task of the container's own would.
   *
   * @param onMissed receives the reason, as part of a sentence, if there is none although tasks are prepared
   * @returns undefined if there is none
   * @throws the signal's reason
   */
  async take(
    request: string,
    onMissed: (reason: string) => void,
    signal: AbortSignal,
  ): Promise<Pick<Member, "task" | "name"> | undefined> {
    const { clock, prepared, spending, wanted } = this.#options;
    if (wanted === undefined) {
      return undefined;
    }
    const missed = (outcome: PreparedOutcome, reason: string): undefined => {
      preparedAsked.report(() => ({ outcome }));
      onMissed(reason);
    };
    const shape = prepared.shapeOf(request);
    const patientUntilMs = clock.nowMs() + this.#bringUps.lateAfterMs(shape);
    for (;;) {
      const alike = this.#waiting.filter((member) => member.shape === shape);
      const claimable = alike.filter((member) => this.#isClaimable(member));
      const ready = claimable.find(({ agent }) => agent !== undefined);
      if (ready !== undefined) {
        return this.#hand(ready);
      }
      if (alike.length === 0) {
        break;
      }
      if (claimable.length === 0) {
        return missed("too-old", "the task like it has waited for pool.max_age");
      }
      const untilMs = (member: Member): number => Math.min(patientUntilMs, this.#lateMs(member));
      const [next] = claimable
        .filter((member) => clock.nowMs() < untilMs(member))
        .sort((one, other) => one.createdMs - other.createdMs);
      if (next === undefined || this.#isClosed) {
        return missed("late", "the task like it comes up late");
      }
      if (await this.#await(next, untilMs(next), signal)) {
        return this.#hand(next);
      }
    }
    if (spending.isDaySpent) {
      return missed("limit", limitReached);
    }
    return this.#wanted.has(shape)
      ? missed("none-left", this.#hindrance ?? "none like it is left")
      : missed("none-alike", this.#whyNoneAlike(request));
  }

  #isClaimable({ claimableUntilMs }: Member): boolean {
    return this.#options.clock.nowMs() < claimableUntilMs;
  }

  /** The time from which a task is late. */
  #lateMs({ awaitedSinceMs, shape }: Member): number {
    return awaitedSinceMs + this.#bringUps.lateAfterMs(shape);
  }

  /** Assigns a task to a start, for good. */
  #hand(member: Member): Member {
    const { task, agent } = member;
    this.#leave(member);
    this.#taken.add(task);
    if (agent !== undefined) {
      this.#agents.set(task, { ...agent, isAwaited: member.reservedMs !== undefined });
    }
    this.#tell(member, "taken");
    this.#wake.abort(over);
    return member;
  }

  /**
   * Waits for the agent of a task that is coming up, which is reserved meanwhile.
   *
   * @returns whether the task can be assigned; it stays reserved then
   * @throws the signal's reason
   */
  async #await(member: Member, untilMs: number, signal: AbortSignal): Promise<boolean> {
    const { clock } = this.#options;
    const late = Promise.withResolvers<boolean>();
    using _timer = after(clock, untilMs - clock.nowMs(), () => late.resolve(false));
    let isMet = false;
    this.#reserve(member);
    try {
      const hasAnswered = await unlessAborted(signal, Promise.race([member.answered.promise, late.promise]));
      isMet = hasAnswered && this.#members.get(member.task) === member && this.#isClaimable(member);
    } finally {
      if (!isMet) {
        this.#release(member);
      }
    }
    return isMet;
  }

  #reserve(member: Member): void {
    const { clock, spending } = this.#options;
    spending.count(this.#waiting);
    member.reservedMs = clock.nowMs();
    this.#wake.abort(over); // Another task is needed in its place.
  }

  /** Cancels the reservation of a task; its reserved time still counts as cost of waiting. */
  #release(member: Member): void {
    const { clock, spending } = this.#options;
    const { costPerHour, reservedMs = clock.nowMs() } = member;
    spending.count(this.#waiting);
    spending.add(clock.nowMs() - reservedMs, costPerHour);
    member.reservedMs = undefined;
    this.#wake.abort(over); // There may be one too many.
  }

  /** The tasks that differ least from a request, and the differing parts. */
  #whyNoneAlike(request: string): string {
    const [nearest] = [...this.#wanted.values()]
      .map(({ kind, request: other }) => ({
        kind,
        parts: this.#options.prepared.differences(request, other),
      }))
      .sort((one, other) => one.parts.length - other.parts.length);
    if (nearest === undefined) {
      return "no tasks are to wait now";
    }
    return `it differs from the tasks for ${nearest.kind} in ${nearest.parts.join(", ")}`;
  }

  /** Forgets a taken task that is recorded as its container's. */
  settle(task: string): void {
    this.#taken.delete(task);
  }

  /** Stops a taken task that no container uses, retrying until that succeeds. */
  doom(task: string): void {
    this.#agents.delete(task);
    this.#taken.delete(task);
    this.#discard(task, "it could not be claimed");
  }

  /** The agent of a taken task, once; undefined if an earlier process has taken it. */
  agentOf(task: string): TakenAgent | undefined {
    const agent = this.#agents.get(task);
    this.#agents.delete(task);
    return agent;
  }

  /** As {@link PreparedTasks.claim}. */
  async claim(task: string, by: Claimant, signal: AbortSignal): Promise<void> {
    await this.#options.prepared.claim(task, by, signal);
  }

  /**
   * Stops every waiting task, because a start has found no room, and prepares none for a while. Tasks that starts wait
   * for stay: those starts would otherwise need the same room themselves.
   */
  yieldRoom(): void {
    this.#stopAll(this.#waiting, "a container needs its room", restMs);
  }

  /** As {@link PreparedWorkloads.drain}. Starts that wait for a task continue without it. */
  drain(forMs: number): number {
    return this.#stopAll([...this.#members.values()], "the pool is drained", forMs);
  }

  /** As {@link PreparedWorkloads.report}. */
  report(): PoolReport {
    const { currency, learned, maxTasks, spending, wanted } = this.#options;
    const members = this.#waiting.toSorted((one, other) => one.createdMs - other.createdMs);
    spending.count(members);
    const { idleHours, cost } = spending.today;
    const { limits } = spending;
    const told = {
      mode: wanted === undefined ? "off" : learned === undefined ? "fixed" : "learned",
      tasks: members.map(({ task, shape, agent, createdMs, costPerHour }) => ({
        task,
        kind: this.#wanted.get(shape)?.kind ?? "",
        ready: agent !== undefined,
        created: timestampFromMs(createdMs),
        costPerHour,
      })),
      wanted: [...this.#wanted].map(([shape, { kind, least, most }]) => ({
        ...{ kind, least, most },
        waiting: this.#countOf(shape),
      })),
      ...{ maxTasks, idleHours, cost, currency },
      ...(Number.isFinite(limits.idleHours) && { maxIdleHours: limits.idleHours }),
      ...(Number.isFinite(limits.cost) && { maxCost: limits.cost }),
      hindrance: this.#hindrance ?? "",
    };
    return { ...told, summary: inWords(told) };
  }

  /** Reports waiting tasks that were found; they are stopped if none are to be prepared any more. */
  seen(waiting: readonly TaskView[]): void {
    if (this.#options.wanted === undefined) {
      for (const { task } of waiting) {
        this.#track(this.#stop(task, "no tasks are prepared any more"));
      }
    }
  }

  /** Why no task is prepared now. */
  get #hindrance(): string | undefined {
    const { clock, isRoomAwaited, spending } = this.#options;
    if (spending.isDaySpent) {
      return limitReached;
    }
    if (isRoomAwaited()) {
      return "a container waits for room";
    }
    return clock.nowMs() < this.#restsUntilMs
      ? `none is prepared until ${new Date(this.#restsUntilMs).toISOString()}`
      : undefined;
  }

  /** @returns the number of tasks */
  #stopAll(members: readonly Member[], reason: string, forMs: number): number {
    this.#rest(forMs);
    for (const member of members) {
      this.#dismiss(member, reason);
    }
    return members.length;
  }

  /** Ends the work; waiting tasks stay for the next process. */
  async close(): Promise<void> {
    this.#closed.abort(over);
    await Promise.all(this.#work);
    await this.#account();
  }

  /** Accounts for the waiting tasks' cost, and stores it if there are any. Never fails. */
  async #account(): Promise<void> {
    const { logger, spending } = this.#options;
    spending.count(this.#waiting);
    if (this.#members.size > 0) {
      try {
        await spending.save();
      } catch (error) {
        logger.warn({ err: error }, `cannot keep what waiting tasks cost: ${messageOf(error)}`);
      }
    }
  }

  #track(work: Promise<void>): void {
    const tracked = work.finally(() => this.#work.delete(tracked));
    this.#work.add(tracked);
  }

  async #keep(wanted: () => Promise<readonly Wanted[]>): Promise<void> {
    const { clock, logger } = this.#options;
    const { signal } = this.#closed;
    while (!signal.aborted) {
      this.#wake = new AbortController();
      try {
        await this.#round(wanted, signal);
      } catch (error) {
        if (!signal.aborted) {
          logger.warn({ err: error }, `cannot look after prepared tasks: ${messageOf(error)}`);
        }
      }
      const wake = AbortSignal.any([signal, this.#wake.signal]);
      await clock.sleep(roundMs, wake).catch(() => clock.sleep(refillPauseMs, signal).catch(() => {}));
    }
  }

  async #round(wanted: () => Promise<readonly Wanted[]>, signal: AbortSignal): Promise<void> {
    const { cloud, costOf, instance, prepared, spending } = this.#options;
    const counts = new Map<string, Asked>();
    for (const { request, kind, count, most = count } of await wanted()) {
      const shape = prepared.shapeOf(request);
      this.#costs.set(shape, costOf(request));
      const before = counts.get(shape) ?? { least: 0, most: 0 };
      counts.set(shape, { request, kind, least: before.least + count, most: before.most + most });
    }
    this.#wanted = new Map(counts);
    const views = whole(await describeAll(cloud, await cloud.listOwn(), signal));
    this.#compare(views.filter((view) => view.instance === instance && !view.stopping && !view.stopped));
    await this.#account();
    if (spending.isSpent(this.#waiting, reserveMs)) {
      counts.clear();
    }
    this.#dismissSurplus(counts);
    for (const [shape, { request, least }] of counts) {
      for (
        let missing = least - this.#countOf(shape);
        missing > 0 && this.#hasRoom(costOf(request));
        missing--
      ) {
        this.#track(this.#prepare(request, shape));
      }
    }
  }

  /** Compares the waiting tasks with those that the cloud lists. */
  #compare(views: readonly TaskView[]): void {
    const { clock, book } = this.#options;
    const nowMs = clock.nowMs();
    const running = new Map(views.map((view) => [view.task, view]));
    const owned = new Set(book.all().map(({ task }) => task));
    for (const member of [...this.#members.values()]) {
      const isListed = running.has(member.task) || nowMs - member.createdMs < listedWithinMs;
      if (!isListed || (running.get(member.task)?.containerId ?? "") !== "") {
        this.#leave(member);
      }
    }
    for (const [task, reason] of this.#doomed) {
      if (running.has(task)) {
        this.#track(this.#stop(task, reason));
      } else {
        this.#doomed.delete(task);
      }
    }
    for (const { task, containerId, prepared, times } of views) {
      const isKnown = [this.#members, this.#taken, this.#doomed, owned].some((known) => known.has(task));
      // One whose request is pending is adopted with its answer.
      const isAsked = prepared !== undefined && this.#asked.has(prepared.name);
      if (prepared !== undefined && containerId === "" && !isKnown && !isAsked) {
        const { name, shape, claimableUntil } = prepared;
        const createdMs = times.created?.getTime() ?? nowMs;
        this.#adopt({ task, name, shape, createdMs, claimableUntil });
      }
    }
  }

  /** Stops tasks that are too old, whose agents do not answer, or that are no longer wanted. */
  #dismissSurplus(counts: ReadonlyMap<string, { readonly most: number }>): void {
    const { clock, startTimeoutMs } = this.#options;
    const kept = new Map<string, number>();
    let all = 0;
    // Claimable ones first.
    const members = this.#waiting.toSorted(
      (one, other) => Number(other.agent !== undefined) - Number(one.agent !== undefined),
    );
    for (const member of members) {
      const ageMs = clock.nowMs() - member.createdMs;
      const before = kept.get(member.shape) ?? 0;
      if (!this.#isClaimable(member)) {
        this.#dismiss(member, "it has waited for long enough");
      } else if (member.agent === undefined && ageMs >= startTimeoutMs) {
        this.#dismiss(member, "its agent does not answer");
      } else if (before >= (counts.get(member.shape)?.most ?? 0) || all >= this.#options.maxTasks) {
        this.#dismiss(member, "no task like it is wanted");
      } else {
        kept.set(member.shape, before + 1);
        all += 1;
      }
    }
  }

  /** Tasks that no start waits for. */
  get #waiting(): readonly Member[] {
    return [...this.#members.values()].filter(({ reservedMs }) => reservedMs === undefined);
  }

  #countOf(shape: string): number {
    const asked = [...this.#asked.values(), ...this.#waiting.map((member) => member.shape)];
    return asked.filter((each) => each === shape).length;
  }

  /** Whether the limits allow another waiting task. */
  #hasRoom(costPerHour: number): boolean {
    const { clock, maxTasks, spending } = this.#options;
    const asked = [...this.#asked.keys()].map(() => ({ createdMs: clock.nowMs(), costPerHour }));
    const waiting = [...this.#waiting, ...asked, { createdMs: clock.nowMs(), costPerHour }];
    if (spending.isSpent(waiting, reserveMs)) {
      return false;
    }
    const isHindered = this.#isClosed || this.#hindrance !== undefined;
    const others = this.#members.size + this.#asked.size + this.#doomed.size; // One that cannot be stopped costs the same.
    return !isHindered && others < maxTasks;
  }

  get #isClosed(): boolean {
    return this.#closed.signal.aborted;
  }

  #rest(forMs = restMs): void {
    this.#restsUntilMs = Math.max(this.#restsUntilMs, this.#options.clock.nowMs() + forMs);
  }

  /** Requests a task. If the answer is lost, the next rounds find the task. */
  async #prepare(request: string, shape: string): Promise<void> {
    const { callToken, cloud, clock, learned, logger, prepared, maxAgeMs } = this.#options;
    const name = newId();
    this.#asked.set(name, shape);
    try {
      const waitMs = Math.min(maxAgeMs + agentMarginMs, longestWaitMs);
      const asked = prepared.prepare(request, {
        name,
        shape,
        waitMs,
        callToken: callToken(name, preparedStart),
      });
      const answer = await cloud.run(asked, this.#closed.signal);
      if ("task" in answer) {
        const createdMs = clock.nowMs();
        const member = this.#adopt({ task: answer.task, name, shape, createdMs });
        this.#track(this.#learnBringUp(member));
        return;
      }
      const { cause, prospect, reason } = answer;
      if (learned !== undefined && isRefusal(cause) && !isLack(prospect) && prospect !== "denied") {
        learned.refused(request); // It may name what is gone, such as a network: other requests are not affected.
      } else {
        this.#rest();
      }
      logger.warn({ err: cause }, `cannot prepare a task: ${reason}`);
    } catch (error) {
      if (error instanceof RequestStale) {
        learned?.refused(request);
      }
      if (!this.#isClosed && !(learned && error instanceof RequestStale)) {
        this.#rest();
        logger.warn({ err: error }, `cannot prepare a task: ${messageOf(error)}`);
      }
    } finally {
      this.#asked.delete(name);
    }
  }

  #adopt({ claimableUntil, ...found }: Pick<Member, "task" | "createdMs"> & Prepared): Member {
    const costPerHour = this.#costs.get(found.shape) ?? Math.max(0, ...this.#costs.values());
    const oldMs = found.createdMs + this.#options.maxAgeMs;
    const claimableUntilMs = Math.min(oldMs, claimableUntil?.getTime() ?? oldMs);
    const member: Member = {
      ...found,
      awaitedSinceMs: this.#options.clock.nowMs(),
      claimableUntilMs,
      costPerHour,
      left: new AbortController(),
      answered: Promise.withResolvers<boolean>(),
      agent: undefined,
      reservedMs: undefined,
    };
    this.#members.set(member.task, member);
    this.#track(this.#meet(member));
    return member;
  }

  /** Learns how long a task takes to come up, if it was requested just now. */
  async #learnBringUp({ answered, createdMs, shape }: Member): Promise<void> {
    if (await answered.promise) {
      this.#bringUps.add(shape, this.#options.clock.nowMs() - createdMs);
    }
  }

  /** Waits until a task's agent answers. */
  async #meet(member: Member): Promise<void> {
    const { task, name, left } = member;
    const { clock, logger } = this.#options;
    const signal = AbortSignal.any([left.signal, this.#closed.signal]);
    const silent = { phase: () => {}, waits: () => {}, goesOn: () => {} };
    try {
      member.agent = await awaitAgent(name, { task, launchGeneration: preparedStart }, signal, {
        ...this.#options,
        ...silent,
      });
      const tookS = Math.round((clock.nowMs() - member.createdMs) / 1000);
      logger.info({ task, prepared: shortId(name) }, `a task waits for a container, after ${tookS} s`);
      if (member.reservedMs === undefined) {
        this.#tell(member, "waits");
      }
      member.answered.resolve(true);
    } catch (error) {
      if (!signal.aborted) {
        this.#rest();
        logger.warn({ task, err: error }, `a prepared task has ended: ${messageOf(error)}`);
        this.#dismiss(member, "its agent cannot be met");
      }
    } finally {
      member.answered.resolve(false); // No effect if it has answered.
    }
  }

  #leave(member: Member): void {
    this.#options.spending.count(this.#waiting);
    this.#members.delete(member.task);
    member.left.abort(over);
  }

  #tell({ task, shape }: Member, happened: PoolEvent["happened"], reason = ""): void {
    this.#options.tell?.({ task, kind: this.#wanted.get(shape)?.kind ?? "", happened, reason });
  }

  #dismiss(member: Member, reason: string): void {
    this.#tell(member, "stopped", reason);
    this.#leave(member);
    this.#discard(member.task, reason);
  }

  #discard(task: string, reason: string): void {
    this.#doomed.set(task, reason);
    this.#track(this.#stop(task, reason));
  }

  /** Never fails: the next round finds a task that was not stopped. */
  async #stop(task: string, reason: string): Promise<void> {
    const { cloud, logger } = this.#options;
    try {
      logger.info({ task }, `a prepared task is stopped: ${reason}`);
      await cloud.stop(task, reason);
    } catch (error) {
      logger.warn({ task, err: error }, `cannot stop a prepared task: ${messageOf(error)}`);
    }
  }
}
