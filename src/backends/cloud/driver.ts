/** The driver of a cloud in which every running container is a task. */
import type { Clock } from "../../common/clock.ts";
import { unavailable } from "../../common/errors.ts";
import { LatestOnly } from "../concurrency/latest-only.ts";
import { componentLogger, type Logger } from "../../common/logger.ts";
import type { Prices } from "../../common/prices.ts";
import type { Driver } from "../driver/driver.ts";
import type { InnerSocketMode } from "../driver/settings.ts";
import type { State } from "../state/state.ts";
import { TaskAgents } from "./agents/task-agents.ts";
import type { CloudAuthority } from "./authority/authority.ts";
import { instanceOf } from "./authority/instance.ts";
import type { CloudPlatform } from "./contract/platform.ts";
import type { Sealer } from "./authority/seal.ts";
import type { DocumentsOfImage } from "./authority/sealed-container.ts";
import { keepSweeping } from "./upkeep/sweeps.ts";
import { Departures } from "./tasks/departures.ts";
import { InterruptedStarts } from "./tasks/interrupted-starts.ts";
import { LearnedPool } from "./pool/learned.ts";
import { Pool, type PoolOptions } from "./pool/pool.ts";
import { type DayLimits, Spending } from "./pool/spending.ts";
import { type PoolEntry, type TemplateSources, wantedTasks } from "./pool/templates.ts";
import { TaskPoller } from "./tasks/poller.ts";
import { QuotaLines } from "./tasks/quota-lines.ts";
import { TaskBook } from "./tasks/task-book.ts";
import type { TaskContext } from "./tasks/task-context.ts";
import { ReportedEnds } from "./tasks/reported-end.ts";
import { UnansweredRequests } from "./tasks/unanswered-requests.ts";
import { agentsJoin, fixedLimits, portsOfFrontend, diskFromAgents } from "../driver/ready-made-roles.ts";
import { end } from "./tasks/endings.ts";
import { takeLaterStart } from "./tasks/later-starts.ts";
import { listKnown, silencesOfTasks } from "./tasks/list.ts";
import { cloudLaunches, cloudSeals, cloudWorkloads } from "./workloads.ts";

/** Settings common to all clouds' configuration sections; durations in milliseconds. */
export interface CloudSection {
  readonly pollInterval: number;
  readonly startTimeout: number;
  readonly quotaTimeout: number;
  readonly linger: number;
  readonly drainTimeout: number;
  /** Absent if there is none. */
  readonly innerSocket?: InnerSocketMode;
  /** Architecture of the tasks, as GOARCH. */
  readonly architecture: string;
}

/** The configured pool of prepared tasks. */
export interface CloudPool {
  /** The tasks to keep waiting; undefined: learned from starts. */
  readonly entries: readonly PoolEntry[] | undefined;
  readonly limits: DayLimits;
  /** Undefined if nothing needs them. */
  readonly prices: Prices | undefined;
  readonly maxTasks: number;
  readonly maxAgeMs: number;
  /** @throws not-found, invalid */
  readonly findImage: TemplateSources["findImage"];
}

/** Dependencies of the driver, which owns the platform. */
export interface CloudDriverParts {
  readonly platform: CloudPlatform;
  readonly section: CloudSection;
  readonly authority: CloudAuthority;
  readonly sealer: Sealer;
  readonly imageDocuments: DocumentsOfImage;
  readonly stored: TaskContext["stored"];
  /** Absent if no tasks are prepared. */
  readonly pool?: CloudPool;
  readonly state: State;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Interval of checks on lingering tasks. */
const patientPollMs = 5_000;
/** These checks at a time: where each task is a call, looks at tasks that start would come behind hundreds of them. */
const mostPatientCalls = 4;
/** Time for which the backend's start waits for the cloud. */
const startPatienceMs = 10_000;

/** Creates the driver; continues what the last process left in progress. */
export function cloudDriver(parts: CloudDriverParts): Driver {
  const { platform, section, authority, sealer, state, clock } = parts;
  const { name, settings, machine, images, networks, volumes } = platform;
  const { tasks: cloud, requests, finder, discovery } = platform;
  const logger = componentLogger(parts.logger, "tasks");
  const calls = { cloud, clock, logger };
  const poller = new TaskPoller({ ...calls, intervalMs: section.pollInterval });
  const patientPoller = new TaskPoller({
    ...calls,
    intervalMs: Math.max(section.pollInterval, patientPollMs),
    mostCalls: mostPatientCalls,
  });
  const { innerSocket: dockerSocket = "off" } = section;
  const departures = new Departures({ ...calls, poller, patientPoller });
  const abandoned = new AbortController();
  const book = new TaskBook(state, cloud);
  const quotaLines = new QuotaLines();
  const pool = poolOf(parts, { ...calls, poller, book, isRoomAwaited: () => quotaLines.isAnyWaiting });
  const context: TaskContext = {
    ...calls,
    requests,
    finder,
    agents: new TaskAgents(finder, authority, sealer),
    book,
    pool,
    poller,
    departures,
    quotaLines,
    unanswered: new UnansweredRequests(),
    searches: new LatestOnly(),
    interrupted: new InterruptedStarts(),
    stored: parts.stored,
    ends: new ReportedEnds({
      log: platform.log,
      exitKey: sealer.exitKey,
      clock,
      logger,
      abandoned: abandoned.signal,
    }),
    silences: silencesOfTasks(),
    toldOfOthers: new Set(),
    later: new Map(),
    exitKey: sealer.exitKey,
    instance: instanceOf(authority),
    settings: { startTimeoutMs: section.startTimeout, quotaTimeoutMs: section.quotaTimeout },
    startSettings: {
      lingerMs: section.linger,
      drainTimeoutMs: section.drainTimeout,
      hasDockerSocket: dockerSocket !== "off",
      architecture: section.architecture,
    },
    abandoned: abandoned.signal,
  };
  const seals = cloudSeals(sealer, parts.imageDocuments);
  const sweeps = keepSweeping(platform.sweeps, clock, logger, () => state.losses.length === 0);
  const shuttingDown = (): void => abandoned.abort(unavailable("the backend is shutting down"));
  return {
    name,
    settings,
    site: {
      kind: "remote",
      startPatienceMs,
      known: () => listKnown(context),
      abandon() {
        shuttingDown();
        platform.abandon();
      },
    },
    launches: cloudLaunches(context, seals),
    silentAgents: { kind: "away", end: (containerId, signal) => end(context, containerId, signal) },
    authority,
    seals: { ...seals, laterStart: (containerId) => takeLaterStart(context, containerId) },
    limits: fixedLimits(name),
    ports: portsOfFrontend,
    hostPaths: { kind: "ignored", dockerSocket },
    sharing: agentsJoin,
    traffic: finder.traffic,
    agentReach: finder.agentReach,
    disk: diskFromAgents,
    workloads: cloudWorkloads({ context, discovery, state }),
    images,
    networks,
    volumes,
    machine,
    prepared: pool,
    async close() {
      shuttingDown();
      await Promise.all([
        pool.close(),
        sweeps.close(),
        departures.close(),
        poller.close(),
        patientPoller.close(),
      ]);
      await platform.close();
    },
  };
}

/** The pool of prepared tasks. */
function poolOf(
  { platform, pool, authority, sealer, section, state }: CloudDriverParts,
  calls: Pick<PoolOptions, "cloud" | "clock" | "logger" | "poller" | "isRoomAwaited"> & {
    readonly book: TaskBook;
  },
): Pool {
  const { prepared, finder } = platform;
  const prices = pool?.prices;
  const costOf = (request: string): number => {
    const { vcpus, gib } = prepared.sizeOf(request);
    return prices === undefined ? 0 : vcpus * prices.perVcpuHour + gib * prices.perGibHour;
  };
  const limits = pool?.limits ?? { idleHours: Infinity, cost: Infinity };
  const isMoney = Number.isFinite(limits.cost);
  const learned =
    pool && pool.entries === undefined
      ? new LearnedPool({
          ...calls,
          state,
          prepared,
          perDay: isMoney ? limits.cost : limits.idleHours,
          costOf: isMoney ? costOf : () => 1,
        })
      : undefined;
  return new Pool({
    ...calls,
    prepared,
    finder,
    instance: instanceOf(authority),
    wanted: learned ? () => learned.wanted() : pool && fixedPool(pool, platform, state, calls),
    learned,
    spending: new Spending({ state, clock: calls.clock, limits }),
    tell: ({ task, kind, happened, reason }) => {
      const attributes = { name: task, kind, ...(reason !== "" && { reason }) };
      const action = `prepared_task: ${happened}`;
      state
        .commit((change) => change.event({ type: "daemon", action, actorId: task, attributes }), "happened")
        .catch(() => {}); // A failing state is reported by more important writes.
    },
    currency: prices?.currency ?? "",
    costOf,
    maxTasks: pool?.maxTasks ?? 0,
    maxAgeMs: pool?.maxAgeMs ?? 0,
    startTimeoutMs: section.startTimeout,
    callToken: sealer.callToken,
  });
}

/** The configured tasks. Logs once why one cannot be prepared. */
function fixedPool(
  { entries = [], findImage }: CloudPool,
  { requests }: CloudPlatform,
  state: State,
  { clock, logger }: Pick<PoolOptions, "clock" | "logger">,
): PoolOptions["wanted"] {
  const told = new Map<PoolEntry, string>();
  const missed = (entry: PoolEntry, reason: string): void => {
    if (told.get(entry) !== reason) {
      told.set(entry, reason);
      logger.warn(`no task is prepared for containers of ${entry.image}: ${reason}`);
    }
  };
  const sources = { findImage, networks: () => state.networks.values(), requests };
  return () => wantedTasks(entries, clock.nowMs(), sources, missed);
}
