/**
 * A replay of a recorded day of starts in simulated time, by this driver's launches, pool and task records. Simulated
 * are a cloud in which a task takes 35 s to come up, and the state's disk.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";

import { LatestOnly } from "../../concurrency/latest-only.ts";
import { ManualClock } from "../../../common/manual-clock.ts";
import { createLogger } from "../../../common/logger.ts";
import {
  NetworkRecordSchema,
  type PoolRecord,
  PoolRecordSchema,
  TaskPhase,
  type TaskRecord,
} from "../../../gen/sockerless/state/v1/state_pb.ts";
import type { WorkloadSpec } from "../../driver/workload-spec.ts";
import type { State } from "../../state/state.ts";
import type { FoundAgent } from "../contract/agent-finder.ts";
import type { TaskView } from "../contract/cloud-tasks.ts";
import type { Claimant } from "../contract/prepared-tasks.ts";
import { LearnedPool } from "../pool/learned.ts";
import { Pool, type PoolOptions } from "../pool/pool.ts";
import { type DayLimits, Spending } from "../pool/spending.ts";
import type { Wanted } from "../pool/templates.ts";
import { InterruptedStarts } from "../tasks/interrupted-starts.ts";
import { launch } from "../tasks/launch.ts";
import { TaskPoller } from "../tasks/poller.ts";
import { QuotaLines } from "../tasks/quota-lines.ts";
import { TaskBook } from "../tasks/task-book.ts";
import type { TaskContext } from "../tasks/task-context.ts";
import { UnansweredRequests } from "../tasks/unanswered-requests.ts";
import { taskView, testCloud } from "./cloud.ts";
import { workloadSpec } from "./workload-spec.ts";

/** A start of a recorded day. */
export interface RecordedStart {
  /** Seconds since the beginning of the day. */
  readonly startS: number;
  readonly image: string;
  /** 1,024 are one vCPU. */
  readonly cpuUnits: number;
  readonly memoryMib: number;
  readonly durationS: number;
}

/** Results of a day with a pool. */
export interface ReplayedDay {
  /** Fraction of the waiting time that was saved. */
  readonly saved: number;
  /** Total time of waiting tasks, relative to that of working tasks including their starts. */
  readonly idleShare: number;
  /** Fraction of starts that did not wait. */
  readonly hits: number;
  readonly idleHours: number;
  /** Cost of the tasks that waited, in US dollars. */
  readonly idleCost: number;
  /** Hours according to the pool's own account. */
  readonly bookedHours: number;
  /** Maximum number of waiting tasks. */
  readonly most: number;
}

/** How tasks are prepared in a replay. */
export interface ReplayedPool {
  /** Determines the tasks to keep waiting; absent: learned. */
  readonly fixed?: (nowMs: number) => readonly Wanted[];
  readonly limits: DayLimits;
  readonly maxTasks?: number;
  /** Time of the second day at which the backend is restarted, in seconds. */
  readonly restartS?: number;
  /** Whether each start has its own network, which is fixed at a task's creation. */
  readonly hasOwnNetworks?: boolean;
}

const coldStartMs = 35_000;
const hourMs = 3_600_000;
const dayMs = 24 * hourMs;
const beginMs = Date.UTC(2026, 5, 1);
const perVcpuHour = 0.04048;
const perGibHour = 0.004445;

/** Parses a recorded day. */
export function parseTrace(csv: string): readonly RecordedStart[] {
  const [head = "", ...lines] = csv.trim().split("\n");
  const names = head.trim().split(",");
  return lines.map((line) => {
    const values = line.trim().split(",");
    const of = (name: string): string => values[names.indexOf(name)] ?? "";
    return {
      startS: Number(of("start_s")),
      image: of("image"),
      cpuUnits: Number(of("cpu_units")),
      memoryMib: Number(of("memory_mib")),
      durationS: Number(of("duration_s")),
    };
  });
}

/** The request of a start, in a cloud whose requests have this form. */
export function requestOf(
  { image, cpuUnits, memoryMib }: Pick<RecordedStart, "image" | "cpuUnits" | "memoryMib">,
  network?: string,
): string {
  return JSON.stringify({ image, cpuUnits, memoryMib, network });
}

/** Hourly cost of a request's task, in US dollars: Fargate, us-east-1, x86_64, as of 2026-06-01. */
export function costOf(request: string): number {
  const { cpuUnits, memoryMib } = JSON.parse(request) as RecordedStart;
  return (cpuUnits / 1024) * perVcpuHour + (memoryMib / 1024) * perGibHour;
}

/**
 * Replays days, one after the other; tasks are only prepared on the last.
 *
 * @returns the results of the last day
 */
export async function replay(
  days: readonly (readonly RecordedStart[])[],
  { fixed, limits, maxTasks = 100, restartS, hasOwnNetworks = false }: ReplayedPool,
): Promise<ReplayedDay> {
  const clock = new ManualClock(beginMs);
  const logger = createLogger({ level: "silent", process: "backend" });
  const tasks = new Map<string, TaskRecord>();
  let pool = new Map<string, PoolRecord>();
  const commit: State["commit"] = async (describe) => {
    describe({
      tasks: {
        put: (record: TaskRecord) => void tasks.set(record.containerId, record),
        delete: (id: string) => void tasks.delete(id),
      },
      pool: {
        put: (record: PoolRecord) => void pool.set(record.id, record),
        delete: (id: string) => void pool.delete(id),
      },
    } as unknown as Parameters<Parameters<State["commit"]>[0]>[0]);
  };
  const running = new Map<string, TaskView>();
  /** Times of starts, by container. */
  const begun = new Map<string, number>();
  let made = 0;
  let most = 0;
  let idleMs = 0;
  let idleCost = 0;
  const waits = ({ prepared, containerId }: TaskView): boolean =>
    prepared !== undefined && containerId === "";
  const leave = (view: TaskView, untilMs = clock.nowMs()): void => {
    const { task, prepared, times } = view;
    if (prepared !== undefined && waits(view)) {
      const waitedMs = Math.max(0, untilMs - (times.created?.getTime() ?? 0));
      idleMs += waitedMs;
      idleCost += (waitedMs / hourMs) * costOf(prepared.shape);
    }
    running.delete(task);
  };
  const cloud = testCloud({
    async run(request) {
      made += 1;
      const task = `task/${made}`;
      const { prepared } = JSON.parse(request) as Pick<TaskView, "prepared">;
      const times = { created: new Date(clock.nowMs()) };
      running.set(task, taskView({ task, prepared, address: String(clock.nowMs()), times }));
      most = Math.max(most, [...running.values()].filter(waits).length);
      return { task };
    },
    async stop(task) {
      const view = running.get(task);
      if (view !== undefined) {
        leave(view);
      }
    },
    listOwn: async () => [...running.keys()],
    describe: async (asked) => ({
      views: asked.flatMap((task) => running.get(task) ?? []),
      missing: asked.filter((task) => !running.has(task)),
    }),
  });
  const pin = new Uint8Array(32);
  const finder = {
    async await(_id: string, { address }: { address: string }, signal: AbortSignal): Promise<FoundAgent> {
      await clock.sleep(Math.max(0, Number(address) + coldStartMs - clock.nowMs()), signal);
      return { address, pin };
    },
    describeSilence: () => "",
  };
  const poller = new TaskPoller({ cloud, clock, logger, intervalMs: 10_000 });
  const book = new TaskBook({ tasks, commit } as unknown as State, cloud);
  const prepared = {
    isMadeWith: { networks: true, anonymousVolumes: false },
    shapeOf: (request: string) => request,
    differences: () => [],
    sizeOf: () => ({ vcpus: 1, gib: 1 }),
    prepare: (request: string, { name, shape }: { name: string; shape: string }) =>
      JSON.stringify({ ...(JSON.parse(request) as object), prepared: { name, shape } }),
    async claim(task: string, { containerId }: Claimant) {
      const view = running.get(task);
      if (view === undefined || view.containerId !== "") {
        throw new Error("it is no longer there, or somebody's");
      }
      leave(view, begun.get(containerId)); // From now on the start waits for the task.
      running.set(task, { ...view, containerId });
    },
  };
  const open = (isOn: boolean) => {
    const state = { pool, commit };
    const learned = new LearnedPool({
      ...{ state, book, prepared, clock, logger },
      perDay: Number.isFinite(limits.cost) ? limits.cost : limits.idleHours,
      costOf: Number.isFinite(limits.cost) ? costOf : () => 1,
      pause: () => Promise.resolve(),
    });
    const spending = new Spending({ state, clock, limits });
    const wanted: PoolOptions["wanted"] = async () => {
      const all = await learned.wanted();
      return isOn ? (fixed?.(clock.nowMs()) ?? all) : [];
    };
    const options = {
      cloud,
      prepared,
      poller,
      finder,
      book,
      clock,
      logger,
      spending,
      learned,
      wanted,
      maxTasks,
    };
    return {
      spending,
      pool: new Pool({
        ...options,
        instance: "one",
        costOf,
        currency: "USD",
        isRoomAwaited: () => false,
        maxAgeMs: 7 * dayMs,
        startTimeoutMs: hourMs,
        callToken: () => "",
      }),
    };
  };
  let now = open(false);
  const unused = async (): Promise<never> => Promise.reject(new Error("not simulated"));
  const context = {
    ...{ cloud, clock, logger, book, poller, finder },
    get pool() {
      return now.pool;
    },
    requests: {
      make: async ({ args }: WorkloadSpec) => args[0] ?? "",
      another: (request: string) => request,
      sizeOf: () => "",
      fitsQuota: async () => true,
    },
    agents: {
      claim: async () => pin,
      greet: unused,
      answers: async () => true,
      awaitFiles: async () => true,
      targetOf: () => undefined,
      addressOf: () => ({ kind: "tcp", host: "192.0.2.1", port: 1, pin }),
      containerAddressOf: () => "192.0.2.1",
    },
    quotaLines: new QuotaLines(),
    unanswered: new UnansweredRequests(),
    searches: new LatestOnly(),
    interrupted: new InterruptedStarts(),
    later: new Map(),
    abandoned: new AbortController().signal,
    settings: { startTimeoutMs: hourMs, quotaTimeoutMs: hourMs },
  } as unknown as TaskContext;

  let waitedMs = 0;
  let hits = 0;
  /** Starts a container, and ends it after its recorded duration. */
  const run = async (start: RecordedStart, id: string): Promise<void> => {
    const { image, cpuUnits, memoryMib, durationS } = start;
    const begunMs = clock.nowMs();
    begun.set(id, begunMs);
    const resources = { nanoCpus: BigInt(cpuUnits) * 1_000_000n, memory: BigInt(memoryMib) * 1024n ** 2n };
    const said = { id, config: { image }, hostConfig: { resources } };
    const name = hasOwnNetworks ? `network-${id}` : undefined;
    const networks = name === undefined ? [] : [{ name, record: create(NetworkRecordSchema) }];
    const spec = workloadSpec(said, {
      args: [requestOf(start, name)],
      network: { kind: "networks", networks },
    });
    const progress = { reached: async () => {}, waits: () => {}, goesOn: () => {}, phase: () => {} };
    await launch(context, spec, new AbortController().signal, progress);
    const tookMs = clock.nowMs() - begunMs;
    waitedMs += tookMs;
    hits += tookMs < 1000 ? 1 : 0;
    await clock.sleep(Math.max(1, begunMs + durationS * 1000 - clock.nowMs()));
    const exit = { code: 0, oomKilled: false, finishedAt: new Date(clock.nowMs()), error: "" };
    const { task } = await book.noteEnd(id, exit, TaskPhase.LINGERING);
    await clock.sleep(60_000);
    running.delete(task);
    await book.forget(id);
  };
  const runs: Promise<void>[] = [];
  const until = async (atMs: number): Promise<void> => {
    await clock.advance(0); // Lets work complete that needs no time.
    if (atMs > clock.nowMs()) {
      await clock.advance(atMs - clock.nowMs());
    }
  };
  const restart = async (isOn: boolean): Promise<void> => {
    await now.pool.close();
    pool = new Map([...pool].map(([id, record]) => [id, copied(record)]));
    now = open(isOn);
  };
  for (const [index, starts] of days.entries()) {
    const dayBeginMs = beginMs + index * dayMs;
    if (index === days.length - 1) {
      await until(dayBeginMs);
      await restart(true);
      waitedMs = 0;
      hits = 0;
    }
    let restartMs = index === days.length - 1 ? dayBeginMs + (restartS ?? Infinity) * 1000 : Infinity;
    for (const [number, start] of starts.entries()) {
      if (dayBeginMs + start.startS * 1000 >= restartMs) {
        restartMs = Infinity;
        await restart(true);
      }
      // Starts after midnight would belong to the next day.
      await until(Math.min(dayBeginMs + start.startS * 1000, dayBeginMs + dayMs - 1));
      runs.push(run(start, `${index}-${number}`));
    }
  }
  await until(beginMs + days.length * dayMs - 1);
  await now.pool.close();
  const bookedHours = now.spending.today.idleHours;
  for (const view of [...running.values()].filter(waits)) {
    leave(view); // Tasks that are coming up for a container continue.
  }
  await clock.advance(2 * hourMs);
  await Promise.all(runs);
  await poller.close();
  const last = days.at(-1) ?? [];
  const workMs = last.reduce((sum, { durationS }) => sum + durationS * 1000 + coldStartMs, 0);
  return {
    saved: 1 - waitedMs / (coldStartMs * last.length),
    idleShare: idleMs / workMs,
    hits: hits / last.length,
    idleHours: idleMs / hourMs,
    idleCost,
    bookedHours,
    most,
  };
}

/** A copy, as read from a state directory. */
function copied(record: PoolRecord): PoolRecord {
  return create(PoolRecordSchema, fromBinary(PoolRecordSchema, toBinary(PoolRecordSchema, record)));
}
