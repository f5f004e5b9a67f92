/**
 * Tasks that wait for containers, and cost money meanwhile. The cloud is the book: which tasks wait is asked of it, so that
 * a backend that starts finds them, and what is here is only what the last look has told.
 */
import { timestampFromMs } from "@bufbuild/protobuf/wkt";

import type { Clock } from "../../../common/clock.ts";
import { messageOf } from "../../../common/errors.ts";
import { newId, shortId } from "../../../common/ids.ts";
import type { Logger } from "../../../common/logger.ts";
import { preparedAsked, type PreparedOutcome } from "../../../common/metrics/measure.ts";
import type { AgentFinder, FoundAgent } from "../contract/agent-finder.ts";
import { type CloudTasks, RequestStale, type TaskView } from "../contract/cloud-tasks.ts";
import type { Claimant, Prepared, PreparedTasks } from "../contract/prepared-tasks.ts";
import type { PreparedWorkloads } from "../../driver/prepared.ts";
import type { WorkloadSpec } from "../../driver/workload-spec.ts";
import { awaitAgent } from "../tasks/await-agent.ts";
import { describeAll, whole } from "../tasks/describe-all.ts";
import type { TaskPoller } from "../tasks/poller.ts";
import type { TaskBook } from "../tasks/task-book.ts";
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
  /** Makes the list of what is to wait now; undefined: nothing is prepared, and what an earlier backend has prepared is stopped. */
  readonly wanted: (() => Promise<readonly Wanted[]>) | undefined;
  /** Whether a start waits for room: nothing is prepared meanwhile. */
  readonly isRoomAwaited: () => boolean;
  /** Learns from starts, which it is told of. */
  readonly learned?: Pick<LearnedPool, "started" | "refused"> | undefined;
  readonly spending: Pick<Spending, "count" | "isSpent" | "isDaySpent" | "save" | "today" | "limits">;
  /** The cost of an hour of a request's task, in the prices' currency; 0 if that is unknown. */
  readonly costOf: (request: string) => number;
  /** The prices' currency; empty: they are not known. */
  readonly currency: string;
  readonly maxTasks: number;
  readonly maxAgeMs: number;
  readonly startTimeoutMs: number;
  /** Receives what becomes of each task, for those who follow events. */
  readonly tell?: (event: PoolEvent) => void;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** A change of a prepared task. */
export interface PoolEvent {
  readonly task: string;
  /** The containers that it is for, in words of the configuration; empty: nobody wants it any more. */
  readonly kind: string;
  readonly happened: "waits" | "taken" | "stopped";
  /** Why it is stopped; else empty. */
  readonly reason: string;
}

/** A task that waits to be claimed. */
interface Member {
  readonly task: string;
  readonly name: string;
  readonly shape: string;
  readonly createdMs: number;
  /** From then on no container takes it. */
  readonly claimableUntilMs: number;
  readonly costPerHour: number;
  /** Aborts when it is claimed or stopped. */
  readonly left: AbortController;
  /** Undefined until its agent has answered. */
  agent: FoundAgent | undefined;
}

/** Tasks of one shape that are to wait. */
interface Asked {
  readonly request: string;
  readonly kind: string;
  readonly least: number;
  readonly most: number;
}

/** Interval of looks at the pool. */
const roundMs = 10_000;
/** Time of all that wait which a day's limit must have left: until they are looked at again, and stopped. */
const reserveMs = 2 * roundMs;
/** Pause after a claim: the starts of a burst come first. */
const refillPauseMs = 1_000;
/** Time for which nothing is prepared after a start found no room, or the cloud gave no task. */
const restMs = 60_000;
/** Time after which a new task is listed. */
const listedWithinMs = 60_000;
/** Time for which an agent waits beyond the age at which its task is stopped: it then ends by itself. */
const agentMarginMs = 120_000;
/** Longest time for which an agent can be told to wait. */
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
  /** Tasks that are to be stopped, with the reason. */
  readonly #doomed = new Map<string, string>();
  /** Agents of tasks taken by starts. */
  readonly #agents = new Map<string, FoundAgent>();
  /** Shapes of requests under way, by name. */
  readonly #asked = new Map<string, string>();
  readonly #closed = new AbortController();
  readonly #work = new Set<Promise<void>>();
  /** Costs of an hour, by shape, of all that were wanted once. */
  readonly #costs = new Map<string, number>();
  /** Wanted tasks by shape, as of the last look. */
  #wanted: ReadonlyMap<string, Asked> = new Map();
  #wake = new AbortController();
  #restsUntilMs = 0;

  constructor(options: PoolOptions) {
    this.#options = options;
    if (options.wanted !== undefined) {
      this.#track(this.#keep(options.wanted));
    }
  }

  /** Tells of a container's start, whether or not a task waits for it. */
  started(spec: WorkloadSpec, request: string): void {
    this.#options.learned?.started(spec, request);
  }

  /**
   * Takes a waiting task for a container's request; nobody else gets it.
   *
   * @param tellMissed receives the reason, as part of a sentence, if there is none although tasks are prepared
   * @returns undefined if there is none
   */
  take(request: string, tellMissed: (reason: string) => void): Pick<Member, "task" | "name"> | undefined {
    const { clock, prepared, wanted } = this.#options;
    if (wanted === undefined) {
      return undefined;
    }
    const missed = (outcome: PreparedOutcome, reason: string): undefined => {
      preparedAsked.report(() => ({ outcome }));
      tellMissed(reason);
    };
    const shape = prepared.shapeOf(request);
    const alike = [...this.#members.values()].filter((member) => member.shape === shape);
    for (const member of alike) {
      if (member.agent !== undefined && clock.nowMs() < member.claimableUntilMs) {
        this.#leave(member);
        this.#taken.add(member.task);
        this.#agents.set(member.task, member.agent);
        this.#tell(member, "taken");
        this.#wake.abort(over);
        return member;
      }
    }
    if (alike.length > 0) {
      return alike.some(({ agent }) => agent === undefined)
        ? missed("not-ready", "the task like it is not ready yet")
        : missed("too-old", "the task like it has waited for pool.max_age");
    }
    if (this.#options.spending.isDaySpent) {
      return missed("limit", limitReached);
    }
    return this.#wanted.has(shape)
      ? missed("none-left", this.#hindrance ?? "none like it is left")
      : missed("none-alike", this.#whyNoneAlike(request));
  }

  /** The tasks that differ least from a request, and in what. */
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

  /** A taken task is in its container's record. */
  settle(task: string): void {
    this.#taken.delete(task);
  }

  /** A taken task is no container's: it is stopped, however often that has to be tried. */
  doom(task: string): void {
    this.#agents.delete(task);
    this.#taken.delete(task);
    this.#discard(task, "it could not be claimed");
  }

  /** The agent of a taken task, once; undefined if an earlier process has taken it. */
  agentOf(task: string): FoundAgent | undefined {
    const agent = this.#agents.get(task);
    this.#agents.delete(task);
    return agent;
  }

  /** As {@link PreparedTasks.claim}. */
  async claim(task: string, by: Claimant, signal: AbortSignal): Promise<void> {
    await this.#options.prepared.claim(task, by, signal);
  }

  /** Stops every waiting task, because a start has found no room, and prepares none for a while. */
  yieldRoom(): void {
    this.#stopAll("a container needs its room", restMs);
  }

  /** As {@link PreparedWorkloads.drain}. */
  drain(forMs: number): number {
    return this.#stopAll("the pool is drained", forMs);
  }

  /** As {@link PreparedWorkloads.report}. */
  report(): PoolReport {
    const { currency, learned, maxTasks, spending, wanted } = this.#options;
    const members = [...this.#members.values()].sort((one, other) => one.createdMs - other.createdMs);
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

  /** Tells of tasks that wait: where nothing is to be prepared any more, they are stopped. */
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

  /** @returns how many */
  #stopAll(reason: string, forMs: number): number {
    this.#rest(forMs);
    const members = [...this.#members.values()];
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

  /** Counts what the waiting tasks cost, and makes that durable if there are any. Never fails. */
  async #account(): Promise<void> {
    const { logger, spending } = this.#options;
    spending.count(this.#members.values());
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
    if (spending.isSpent(this.#members.values(), reserveMs)) {
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

  /** Compares what waits with what the cloud tells. */
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
      // One that is still asked for is adopted with the answer.
      const isAsked = prepared !== undefined && this.#asked.has(prepared.name);
      if (prepared !== undefined && containerId === "" && !isKnown && !isAsked) {
        const { name, shape, claimableUntil } = prepared;
        const createdMs = times.created?.getTime() ?? nowMs;
        this.#adopt({ task, name, shape, createdMs, claimableUntil });
      }
    }
  }

  /** Stops tasks that are too old, whose agents do not answer, or that nobody wants. */
  #dismissSurplus(counts: ReadonlyMap<string, { readonly most: number }>): void {
    const { clock, startTimeoutMs } = this.#options;
    const kept = new Map<string, number>();
    let all = 0;
    // Those that can be claimed come first.
    const members = [...this.#members.values()].sort(
      (one, other) => Number(other.agent !== undefined) - Number(one.agent !== undefined),
    );
    for (const member of members) {
      const ageMs = clock.nowMs() - member.createdMs;
      const before = kept.get(member.shape) ?? 0;
      if (clock.nowMs() >= member.claimableUntilMs) {
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

  #countOf(shape: string): number {
    const asked = [...this.#asked.values(), ...[...this.#members.values()].map((member) => member.shape)];
    return asked.filter((each) => each === shape).length;
  }

  /** Whether one more may wait. */
  #hasRoom(costPerHour: number): boolean {
    const { clock, maxTasks, spending } = this.#options;
    const asked = [...this.#asked.keys()].map(() => ({ createdMs: clock.nowMs(), costPerHour }));
    const waiting = [...this.#members.values(), ...asked, { createdMs: clock.nowMs(), costPerHour }];
    if (spending.isSpent(waiting, reserveMs)) {
      return false;
    }
    const isHindered = this.#isClosed || this.#hindrance !== undefined;
    return !isHindered && this.#members.size + this.#asked.size < maxTasks;
  }

  get #isClosed(): boolean {
    return this.#closed.signal.aborted;
  }

  #rest(forMs = restMs): void {
    this.#restsUntilMs = Math.max(this.#restsUntilMs, this.#options.clock.nowMs() + forMs);
  }

  /** Requests a task. One whose answer is lost is found by the next looks. */
  async #prepare(request: string, shape: string): Promise<void> {
    const { cloud, clock, learned, logger, prepared, maxAgeMs } = this.#options;
    const name = newId();
    this.#asked.set(name, shape);
    try {
      const waitMs = Math.min(maxAgeMs + agentMarginMs, longestWaitMs);
      const asked = prepared.prepare(request, { name, shape, waitMs });
      const answer = await cloud.run(asked, this.#closed.signal);
      if ("task" in answer) {
        this.#adopt({ task: answer.task, name, shape, createdMs: clock.nowMs() });
        return;
      }
      this.#rest();
      logger.warn({ err: answer.cause }, `cannot prepare a task: ${answer.reason}`);
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

  #adopt({ claimableUntil, ...found }: Pick<Member, "task" | "createdMs"> & Prepared): void {
    const costPerHour = this.#costs.get(found.shape) ?? Math.max(0, ...this.#costs.values());
    const oldMs = found.createdMs + this.#options.maxAgeMs;
    const claimableUntilMs = Math.min(oldMs, claimableUntil?.getTime() ?? oldMs);
    const left = new AbortController();
    const member: Member = { ...found, claimableUntilMs, costPerHour, left, agent: undefined };
    this.#members.set(member.task, member);
    this.#track(this.#meet(member));
  }

  /** Waits until a task's agent answers. */
  async #meet(member: Member): Promise<void> {
    const { task, name, left } = member;
    const { clock, logger } = this.#options;
    const signal = AbortSignal.any([left.signal, this.#closed.signal]);
    const silent = { phase: () => {}, waits: () => {}, goesOn: () => {} };
    try {
      member.agent = await awaitAgent(name, task, signal, { ...this.#options, ...silent });
      const tookS = Math.round((clock.nowMs() - member.createdMs) / 1000);
      logger.info({ task, prepared: shortId(name) }, `a task waits for a container, after ${tookS} s`);
      this.#tell(member, "waits");
    } catch (error) {
      if (!signal.aborted) {
        this.#rest();
        logger.warn({ task, err: error }, `a prepared task has ended: ${messageOf(error)}`);
        this.#dismiss(member, "its agent cannot be met");
      }
    }
  }

  #leave(member: Member): void {
    this.#options.spending.count(this.#members.values());
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

  /** Never fails: the next look finds a task that is not stopped. */
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
